//! Other names under which a file may hold a model's tensors.

use crate::tensor::HostTensor;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// The tensors under the names that are wanted. A transformer encoder's layers are called `layers.0` and so on, as in torch's
/// `TransformerEncoder`; taken as well are the names of a `TransformerEncoderLayer` by itself, `0` without `layers`, as early
/// versions of kiln wrote them, and names below torch's wrappers (`AveragedModel`, `DataParallel`, `torch.compile`).
pub(super) fn adapted<'a>(
    tensors: &'a BTreeMap<String, HostTensor>,
    wanted: &[&str],
) -> Cow<'a, BTreeMap<String, HostTensor>> {
    let missing = wanted.iter().filter(|w| !tensors.contains_key(**w));
    let is_free = |name: &String| tensors.contains_key(name) && !wanted.contains(&name.as_str());
    let renamed: Vec<(String, String)> =
        missing.filter_map(|w| Some((others(w).into_iter().find(is_free)?, w.to_string()))).collect();
    if renamed.is_empty() {
        return Cow::Borrowed(tensors);
    }
    let mut out = tensors.clone();
    for (from, to) in renamed {
        if let Some(t) = out.remove(&from) {
            out.insert(to, t);
        }
    }
    Cow::Owned(out)
}

/// The other names of a tensor.
fn others(name: &str) -> Vec<String> {
    let mut out = vec![format!("module.{name}"), format!("_orig_mod.{name}")];
    for word in [".layers.", ".layers.0."] {
        out.extend(name.match_indices(word).map(|(at, _)| [&name[..at], &name[at + word.len() - 1..]].concat()));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_found_under_their_other_names() {
        let file = |names: &[&str]| -> BTreeMap<String, HostTensor> {
            names.iter().enumerate().map(|(i, n)| (n.to_string(), HostTensor::scalar(i as f32))).collect()
        };
        let wanted = ["1.layers.0.norm1.weight", "1.layers.1.norm1.weight", "head.weight"];
        let found = |names: &[&str]| adapted(&file(names), &wanted).keys().cloned().collect::<Vec<_>>();
        assert_eq!(found(&["1.0.norm1.weight", "1.1.norm1.weight", "head.weight"]), wanted);
        assert_eq!(found(&wanted), wanted);
        assert_eq!(found(&["1.norm1.weight"]), [wanted[0]], "torch's layer by itself");
        assert_eq!(found(&["module.head.weight", "n_averaged"]), ["head.weight", "n_averaged"]);
        assert_eq!(found(&["2.norm1.weight"]), ["2.norm1.weight"]);
        assert!(matches!(adapted(&file(&wanted), &wanted), Cow::Borrowed(_)));
    }
}
