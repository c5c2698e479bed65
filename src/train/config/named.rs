//! The elements of a list of layers: a layer, and perhaps a name.

use super::layers::LayerConfig;
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::ops::Deref;
use toml::{Table, Value};

/// A layer of a list. Its parameters are called by its place in the list, as in torch's `Sequential`, or by the key `name`,
/// which every layer may have: `features.0`, `lstm`, `head`.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedLayer {
    /// The beginning of its parameters' names instead of its place.
    pub name: Option<String>,
    /// The layer.
    pub layer: LayerConfig,
}

/// The key of a layer's name.
const NAME: &str = "name";

impl NamedLayer {
    /// The scope of the layer at this place of a list.
    pub fn scope(&self, place: usize) -> String {
        self.name.clone().unwrap_or_else(|| place.to_string())
    }

    /// What is wrong with the names of these layers and of those inside them, if anything is.
    pub fn check(layers: &[NamedLayer]) -> Result<(), String> {
        let scopes: Vec<String> = layers.iter().enumerate().map(|(i, l)| l.scope(i)).collect();
        for (i, layer) in layers.iter().enumerate() {
            let is_word = |w: &str| !w.is_empty() && w.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-');
            if !scopes[i].split('.').all(is_word) {
                return Err(format!("the name {:?} of layer {i} must be words joined by dots", scopes[i]));
            }
            if let Some(first) = scopes[..i].iter().position(|s| *s == scopes[i]) {
                return Err(format!("layers {first} and {i} have the same name {:?}", scopes[i]));
            }
            if let LayerConfig::Residual { layers, shortcut } = &layer.layer {
                NamedLayer::check(layers)?;
                NamedLayer::check(shortcut)?;
            }
        }
        Ok(())
    }
}

impl Deref for NamedLayer {
    type Target = LayerConfig;
    fn deref(&self) -> &LayerConfig {
        &self.layer
    }
}

impl<'de> Deserialize<'de> for NamedLayer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<NamedLayer, D::Error> {
        let mut table = Table::deserialize(deserializer)?;
        let name = match table.remove(NAME) {
            None => None,
            Some(Value::String(name)) => Some(name),
            Some(other) => return Err(D::Error::custom(format!("the name of a layer must be a text, not {other}"))),
        };
        let layer = table.try_into().map_err(|e: toml::de::Error| D::Error::custom(e.message().trim_end()))?;
        Ok(NamedLayer { name, layer })
    }
}

impl Serialize for NamedLayer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut table = Table::try_from(&self.layer).map_err(S::Error::custom)?;
        if let Some(name) = &self.name {
            table.insert(NAME.into(), name.as_str().into());
        }
        table.serialize(serializer)
    }
}
