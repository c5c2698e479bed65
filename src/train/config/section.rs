//! The form of a section: a struct whose keys have defaults, and whose documentation is written into configurations.

/// Keys with their meanings.
pub type Keys = &'static [(&'static str, &'static str)];

/// A section that knows what its keys mean.
pub trait Documented {
    /// The keys in order, each with its meaning.
    const KEYS: Keys;
}

/// A section: a struct whose keys all have defaults, unknown keys refused, and whose documentation is also what
/// `--print-config` writes above each key.
macro_rules! section {
    ($(#[$doc:meta])* $name:ident {
        $( $(#[doc = $field_doc:literal])* $field:ident : $ty:ty = $default:expr ),* $(,)?
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $( $(#[doc = $field_doc])* pub $field: $ty, )*
        }
        impl Default for $name {
            fn default() -> $name {
                $name { $( $field: $default, )* }
            }
        }
        impl $crate::train::config::section::Documented for $name {
            const KEYS: &'static [(&'static str, &'static str)] =
                &[ $( (stringify!($field), concat!($( $field_doc, )*)), )* ];
        }
    };
}
pub(super) use section;
