//! Variants of kernels: each that could be picked is right on odd shapes, and a pick of a tuning file is what runs.

use kiln::backend::gpu::kernels::candidates::{Candidate, candidates, key, texts};
use kiln::backend::gpu::kernels::mutations;
use kiln::backend::gpu::tuning::{Entry, Tuning};
use kiln::bench::variants;
use kiln::ir::{ConvDims, Tensor, Type};
use kiln::plan::{Region, Step};
use kiln::{DType, Device, HostTensor, Program, Shape, Store};
use std::collections::BTreeSet;
use std::path::Path;

/// Any adapter, or nothing where there need not be one.
pub fn device() -> Option<Device> {
    match Device::open("gpu").or_else(|_| Device::open("software")) {
        Ok(device) => Some(device),
        Err(e) if !kiln::config::config().require_adapter => {
            eprintln!("not run: {e}");
            None
        }
        Err(e) => panic!("{e}"),
    }
}

fn program(device: &Device, shapes: &[&[usize]], f: impl FnOnce(&[Tensor]) -> Vec<Tensor>) -> Program {
    let names = ["a", "b", "c", "d"];
    let of = |shape: &&[usize]| Type { dtype: DType::F32, shape: Shape::from(*shape) };
    let feeds: Vec<(&str, Type)> = names.into_iter().zip(shapes.iter().map(of)).collect();
    Program::trace(&Store::new(device), &feeds, f).unwrap()
}

/// The gradients of an output by all inputs, the cotangent being the last input.
fn grads(x: &[Tensor], f: impl Fn(&[Tensor]) -> Tensor) -> Vec<Tensor> {
    let (g, args) = x.split_last().unwrap();
    let wrt: Vec<&Tensor> = args.iter().collect();
    kiln::grad::vjp(&[f(args)], &[Some(g.clone())], &wrt).into_iter().flatten().collect()
}

fn odd(device: &Device) -> Vec<Program> {
    let p = |shapes: &[&[usize]], f: &dyn Fn(&[Tensor]) -> Vec<Tensor>| program(device, shapes, f);
    let pad = || ConvDims {
        stride: vec![1, 2],
        pad: vec![(1, 1), (0, 2)],
        lhs_dilation: vec![1, 1],
        rhs_dilation: vec![1, 1],
        groups: 1,
    };
    vec![
        p(&[&[33, 65], &[65, 47]], &|x| vec![x[0].matmul(&x[1])]),
        p(&[&[3, 5, 131], &[3, 131, 9]], &|x| vec![x[0].matmul(&x[1])]),
        p(&[&[1, 257], &[257, 19]], &|x| vec![x[0].matmul(&x[1])]),
        p(&[&[3, 5, 9, 11], &[7, 5, 3, 3]], &|x| vec![x[0].conv(&x[1], pad())]),
        p(&[&[37, 301]], &|x| vec![x[0].sum(&[0], false)]),
        p(&[&[37, 300]], &|x| vec![x[0].sum(&[1], false), x[0].sum(&[0], false)]),
        p(&[&[37, 301]], &|x| vec![x[0].sum(&[], false), x[0].cumsum(1), x[0].argmax(1, false)]),
        p(&[&[5, 77]], &|x| vec![x[0].softmax(-1), x[0].log_softmax(-1)]),
        p(&[&[9, 131], &[131], &[131]], &|x| vec![x[0].layer_norm(&[131], Some(&x[1]), Some(&x[2]), 1e-5)]),
        p(&[&[9, 131], &[131], &[131], &[9, 131]], &|x| {
            grads(x, |x| x[0].layer_norm(&[131], Some(&x[1]), Some(&x[2]), 1e-5))
        }),
        p(&[&[11, 12]], &|x| vec![&x[0] * 2.0 + 1.0]),
    ]
}

fn regions(programs: &[Program], device: &Device) -> Vec<Region> {
    let programs: Vec<&Program> = programs.iter().collect();
    variants::regions(&programs, device.gpu().unwrap()).into_iter().cloned().collect()
}

#[test]
fn every_variant_that_could_be_picked_is_right_on_odd_shapes() {
    let Some(device) = device() else { return };
    let (mut reached, mut wrong) = (BTreeSet::new(), Vec::new());
    for region in regions(&odd(&device), &device) {
        let (names, faults) = variants::faults(device.gpu().unwrap(), &region).unwrap();
        reached.extend(names.iter().map(|n| n.split(':').next().unwrap_or_default().to_string()));
        wrong.extend(faults);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for name in [
        "tiled_64",
        "tiled_32",
        "direct_4x1",
        "direct_1x1_t",
        "tree",
        "tree_quads",
        "serial",
        "quads",
        "columns",
        "chunked",
    ] {
        assert!(reached.contains(name), "{name} is not among {reached:?}");
    }
}

#[test]
fn a_wrong_variant_is_found() {
    let Some(device) = device() else { return };
    let gpu = device.gpu().unwrap();
    let product = program(&device, &[&[33, 65], &[65, 47]], |x| vec![x[0].matmul(&x[1])]);
    let region = &regions(&[product], &device)[0];
    let tiled = mutations().into_iter().find(|m| m.stem == "matmul_tiled").unwrap();
    let (names, faults) = variants::faults(&gpu.mutated(tiled), region).unwrap();
    assert!(!faults.is_empty() && faults.iter().all(|f| f.starts_with("tiled")), "{faults:?}");
    assert!(names.len() > faults.len());
}

/// The first region of the program with its variants.
fn first(program: &Program, device: &Device) -> (Region, Vec<Candidate>) {
    let region = program.plan().steps.iter().find_map(|s| match s {
        Step::Run { region, .. } => Some(region.clone()),
        Step::Copy { .. } => None,
    });
    let region = region.unwrap();
    let all = candidates(&region, device.gpu().unwrap().gpu_caps()).unwrap();
    (region, all)
}

fn write(path: &Path, device: &Device, region: &Region, candidate: &Candidate, texts: String) {
    let mut file = Tuning::new(&device.info());
    let (variant, what) = (candidate.variant.clone(), "a product".to_string());
    file.put(Entry { what, region: key(region), variant, texts, ms: 1.0, built_in_ms: 2.0 });
    file.write(path).unwrap();
}

/// The variants of the kernels that a run of the program launches.
fn launched(device: &Device, shapes: [&[usize]; 2]) -> Vec<&'static str> {
    let mut p = program(device, &shapes, |x| vec![x[0].matmul(&x[1])]);
    let [a, b] = shapes.map(|s| HostTensor::zeros(DType::F32, s));
    let (fetches, times) = p.profile(&[("a", &a), ("b", &b)]).unwrap();
    fetches.wait().unwrap();
    times.iter().map(|t| t.variant).collect()
}

#[test]
fn a_pick_of_a_tuning_file_is_what_runs() {
    let Some(device) = device() else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.toml");
    let shapes: [&[usize]; 2] = [&[33, 65], &[65, 47]];
    let own = program(&device, &shapes, |x| vec![x[0].matmul(&x[1])]);
    let (region, all) = first(&own, &device);
    let plain = launched(&device, shapes);
    assert_ne!(plain, ["wall clock"], "this adapter has timestamps, by which the variant is told");
    for wanted in ["tiled_64", "direct_1x2"] {
        let candidate = all.iter().find(|c| c.variant == wanted && !c.built_in).unwrap();
        write(&path, &device, &region, candidate, texts(&candidate.calls));
        let tuned = device.clone().tuned_by(&path);
        assert_eq!(launched(&tuned, shapes), [wanted]);
        assert!(tuned.info().driver.contains("1 tuned picks"), "{}", tuned.info().driver);
        // Other sizes are other regions.
        let other: [&[usize]; 2] = [&[33, 64], &[64, 47]];
        assert_eq!(launched(&tuned, other), launched(&device, other));
    }
    // Kernels that have changed since they were measured, and files that are no such files: the built-in pick runs.
    let candidate = all.iter().find(|c| c.variant == "tiled_64").unwrap();
    write(&path, &device, &region, candidate, "0".into());
    assert_eq!(launched(&device.clone().tuned_by(&path), shapes), plain);
    std::fs::write(&path, "format = 1").unwrap();
    let damaged = device.clone().tuned_by(&path);
    assert_eq!(launched(&damaged, shapes), plain);
    assert_eq!(damaged.info().driver, device.info().driver);
    assert_eq!(launched(&device.clone().tuned_by(&dir.path().join("none")), shapes), plain);
}

/// `kiln` with these arguments and this folder of tuning files: whether it went well, standard output and standard error.
fn kiln(args: &[&str], tuning: &Path) -> (bool, String, String) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_kiln"));
    let out = command.args(args).env("KILN_TUNING", tuning).env("KILN_DEBUG", "1").output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (out.status.success(), text(&out.stdout), text(&out.stderr))
}

#[test]
fn the_command_measures_a_run_and_training_reads_what_it_wrote() {
    let Some(device) = device() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (run, tuning) = (dir.path().join("run.toml"), dir.path().join("tuning"));
    std::fs::write(&run, "[train]\npreset = \"digits-mlp\"\nbatch = 8\n[model]\nkind = \"mlp\"\nhidden = [160, 96]\n")
        .unwrap();
    let (run, name) = (run.to_str().unwrap(), device.info().name);
    let (good, out, err) = kiln(&["tune", run, "--device", &name, "--samples", "1", "--json"], &tuning);
    assert!(good, "{err}");
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    let regions = report["regions"].as_array().unwrap();
    assert!(regions.len() > 8, "{} regions", regions.len());
    for region in regions {
        let rows = region["variants"]["rows"].as_array().unwrap();
        assert!(rows.len() > 1 && rows.iter().filter(|r| r["built_in"] == true).count() == 1, "{region}");
        assert!(rows.iter().all(|r| r["wrong"].is_null()), "{region}");
    }
    let path = Path::new(report["file"].as_str().unwrap());
    let file = Tuning::read(path, &device.info()).unwrap().unwrap();
    let picked = regions.iter().filter(|r| r["picked"] == true).count();
    assert_eq!(file.entries.len(), picked);

    let out = dir.path().join("out");
    let train = ["train", run, "--device", &name, "--stop-after", "2", "--no-report", "--out", out.to_str().unwrap()];
    let (good, _, err) = kiln(&train, &tuning);
    assert!(good && err.contains(&format!("{picked} tuned picks of")), "{err}");
    assert!(err.matches("tuned: ").count() >= picked.min(1), "{err}");
    std::fs::write(path, "format =").unwrap();
    let (good, _, err) = kiln(&[&train[..7], &["--out", dir.path().join("again").to_str().unwrap()]].concat(), &tuning);
    assert!(good && err.contains("is damaged") && err.contains("it is not used"), "{err}");
}
