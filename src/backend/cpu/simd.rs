//! Run-time choice of the instruction set. The binary is compiled for baseline x86-64; a function declared through
//! [`simd_fn!`] is compiled three times (baseline, x86-64-v3 with AVX2, x86-64-v4 with AVX-512) and picks at the call.
//! Its body is plain loops that the compiler vectorises; what it calls must be `#[inline(always)]`, closures included.

/// The widest instruction set that this processor has, of those that we compile for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    /// What the binary is compiled for.
    Baseline,
    /// AVX2 and FMA.
    V3,
    /// AVX-512 F, BW, CD, DQ, VL.
    V4,
}

/// This processor's level, found once.
#[inline(always)]
pub(super) fn level() -> Level {
    #[cfg(target_arch = "x86_64")]
    {
        static LEVEL: std::sync::OnceLock<Level> = std::sync::OnceLock::new();
        *LEVEL.get_or_init(|| {
            if pulp::x86::V4::try_new().is_some() {
                Level::V4
            } else if pulp::x86::V3::try_new().is_some() {
                Level::V3
            } else {
                Level::Baseline
            }
        })
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        Level::Baseline
    }
}

/// A word on the level, for `kiln devices`.
pub(super) fn describe() -> &'static str {
    match level() {
        Level::Baseline if cfg!(target_arch = "aarch64") => "NEON",
        Level::Baseline => "baseline",
        Level::V3 => "AVX2",
        Level::V4 => "AVX-512",
    }
}

/// Declares a function that is compiled per instruction set (see the module's text).
macro_rules! simd_fn {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments, reason = "kernels take what they need, unpacked")]
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body($($arg: $ty),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,fma,bmi1,bmi2,lzcnt,popcnt")]
                fn v4($($arg: $ty),*) $(-> $ret)? {
                    body($($arg),*)
                }
                #[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt")]
                fn v3($($arg: $ty),*) $(-> $ret)? {
                    body($($arg),*)
                }
                match $crate::backend::cpu::simd::level() {
                    // SAFETY: `level` has checked that the processor has all of these features.
                    $crate::backend::cpu::simd::Level::V4 => return unsafe { v4($($arg),*) },
                    // SAFETY: as above.
                    $crate::backend::cpu::simd::Level::V3 => return unsafe { v3($($arg),*) },
                    $crate::backend::cpu::simd::Level::Baseline => {}
                }
            }
            body($($arg),*)
        }
    };
}
pub(super) use simd_fn;
