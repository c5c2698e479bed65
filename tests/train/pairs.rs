//! Sentence pairs: a small encoder-decoder learns an order of words that a lexicon cannot know, and is measured beside it.

use crate::kiln;
use std::fs;
use std::path::Path;

const NOUNS: [(&str, &str); 7] = [
    ("house", "casa"),
    ("table", "mesa"),
    ("moon", "luna"),
    ("door", "puerta"),
    ("night", "noche"),
    ("hand", "mano"),
    ("road", "senda"),
];
const ADJECTIVES: [(&str, &str); 6] =
    [("red", "roja"), ("white", "blanca"), ("black", "negra"), ("small", "corta"), ("new", "nueva"), ("old", "vieja")];

const RUN: &str = "[train]\nepochs = 40\nbatch = 8\n[data]\nkind = \"pairs\"\npath = \"pairs.tsv\"\nsource = 1\ntarget = 2\n\
    unit = \"words\"\ntest = 0.2\nvalidation = 0.0\n[model]\nkind = \"encoder_decoder\"\nlayers = [1, 1]\nheads = 2\nwidth = 32\n\
    feedforward = 64\n[loss]\nkind = \"cross_entropy\"\n[optimizer]\nkind = \"adamw\"\nlr = 0.005\n";

#[track_caller]
fn said(dir: &Path, args: &[&str]) -> String {
    let out = kiln(dir, args);
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn a_translator_learns_the_order_of_words_and_is_measured_beside_baselines() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let pair = |(n, a): (&(&str, &str), &(&str, &str))| {
        format!("the {} {} is here .\tla {} {} queda ahí .\n", a.0, n.0, n.1, a.1)
    };
    let all: String = NOUNS.iter().flat_map(|n| ADJECTIVES.iter().map(move |a| pair((n, a)))).collect();
    fs::write(d.join("pairs.tsv"), all).unwrap();
    fs::write(d.join("run.toml"), RUN).unwrap();
    let trained = said(d, &["train", "run.toml", "--device", "cpu", "--out", "run"]);
    assert!(trained.contains("tokens)") && trained.contains("tokens/s"), "{trained}");

    let json: serde_json::Value =
        serde_json::from_str(&said(d, &["eval", "run", "--device", "cpu", "--json"])).unwrap();
    let t = &json["translations"];
    let score = |who: &str, what: &str| t[who][what].as_f64().unwrap();
    assert!(score("model", "bleu") > 80.0, "{t}");
    let (words, copied) = (score("lexicon", "words"), score("copied", "words"));
    assert!(words > copied + 20.0, "words are easy: {t}");
    assert!(score("lexicon", "bleu") < 50.0, "their order is not: {t}");
    assert_eq!(score("copied", "bleu"), 0.0);
    assert_eq!(t["sentences"].as_array().unwrap().len(), 8, "a fifth of 42");

    let text = said(d, &["eval", "run", "--device", "cpu", "--sentences", "3"]);
    assert!(text.contains("3 sentences") && text.contains("word for word"), "{text}");
    let plain = said(d, &["eval", "run", "--device", "cpu", "--sentences", "0"]);
    assert!(!plain.contains("BLEU"), "{plain}");
    let report = fs::read_to_string(d.join("run/report.html")).unwrap();
    let first = t["sentences"][0]["reference"].as_str().unwrap();
    assert!(report.contains("Translations") && report.contains(first), "{first}");
}
