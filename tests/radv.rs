//! The hot kernels as a discrete GPU gets them, compiled for real AMD chips by Mesa's RADV driver, which needs no GPU for
//! that: no spilled registers, enough waves, and a matrix product that is made for a GPU and not for a software adapter.
//! Without RADV this says so and checks nothing. `benches/RADV.md` has the table and the reasons.

#[path = "../benches/radv/tool.rs"]
mod tool;

use kiln::backend::gpu::AdapterClass;
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// Kernels whose operands lie together in memory. Those of a convolution do not: neighbours in its window are neighbours in memory without
/// being aligned.
const HOT: [&str; 11] = [
    "matmul_tiled",
    "matmul_direct",
    "softmax",
    "layer_norm",
    "layer_norm_grad",
    "layer_norm_params",
    "batch_norm",
    "batch_norm_grad",
    "attention",
    "reduce",
    "pointwise",
];

/// Held while chips are open: which one is meant is in the environment.
static ENVIRONMENT: Mutex<()> = Mutex::new(());

#[test]
fn hot_kernels_fit_real_chips() {
    let Some((driver, library)) = tool::driver() else {
        eprintln!("not run: RADV is not installed");
        return;
    };
    let _alone = ENVIRONMENT.lock().unwrap_or_else(PoisonError::into_inner);
    let device = tool::Paper::new(AdapterClass::Discrete);
    let (mut wrong, mut count) = (Vec::new(), 0);
    for (title, names) in tool::CHIPS {
        let Some(name) = tool::known(&library, names) else {
            eprintln!("not run on {title}: this driver does not know it");
            continue;
        };
        let chip = tool::Chip::open(driver, name).unwrap();
        let mut seen = BTreeSet::new();
        for (workload, call) in tool::all(&device) {
            if !seen.insert((call.source.clone(), format!("{:?}", call.overrides))) {
                continue;
            }
            let f = chip.compile(&call).unwrap();
            let row = tool::row(title, &workload, &call, &f);
            count += 1;
            if f.spilled + f.scratch > 0 {
                wrong.push(format!("spills: {row}"));
            }
            if title.starts_with("navi") && f.waves < 4 {
                wrong.push(format!("fewer than 4 waves: {row}"));
            }
            let [narrow, middle, wide] = f.loads;
            let hot = HOT.contains(&call.label) && call.bytes >= 1 << 20;
            if hot && (wide == 0 || wide < narrow + middle) {
                wrong.push(format!("mostly loads of fewer than 16 bytes: {row}"));
            }
            // A few below what it is, so that a change for the worse is noticed; 70 is what a product of a GPU should have at least.
            let least = match &*workload {
                "matmul_1024" | "matmul_4096" => 85.0,
                w if w.starts_with("conv") && call.label == "conv2d_im2col" => 55.0,
                w if w.starts_with("sdpa") && call.label != "attention_delta" => 85.0,
                _ => 0.0,
            };
            if f.fma.unwrap_or(0.0) < least {
                wrong.push(format!("less than {least} % multiply-adds: {row}"));
            }
            if workload == "matmul_4096" && call.variant != "tiled_128" {
                wrong.push(format!("not the largest tiles: {row}"));
            }
            if workload == "matmul_1024" {
                if !call.variant.starts_with("tiled") {
                    wrong.push(format!("not a GPU's kernel: {row}"));
                }
                if f.loads[0] + f.loads[1] > 0 || wide == 0 {
                    wrong.push(format!("loads of fewer than 16 bytes: {row}"));
                }
            }
        }
    }
    assert!(count > 20, "only {count} kernels");
    assert!(wrong.is_empty(), "{}\n{}", tool::HEADING, wrong.join("\n"));
}

/// What has registers to spare in newer drivers alone: RADV of Mesa 22.3, which knows navi31 by this name, has no instruction for a broadcast there
/// and makes a loop of each.
const SPILLS: [(&str, &str); 1] = [("GFX1100", "matmul_broadcast")];

#[test]
fn variants_fit_real_chips() {
    let Some((driver, library)) = tool::driver() else {
        eprintln!("not run: RADV is not installed");
        return;
    };
    let _alone = ENVIRONMENT.lock().unwrap_or_else(PoisonError::into_inner);
    let device = tool::Paper::new(AdapterClass::Discrete);
    let (mut wrong, mut subgroups) = (Vec::new(), BTreeSet::new());
    for (title, names) in tool::CHIPS {
        let Some(name) = tool::known(&library, names) else { continue };
        let chip = tool::Chip::open(driver, name).unwrap();
        let mut seen = BTreeSet::new();
        for (workload, call) in tool::variants(&device) {
            if !seen.insert((call.source.clone(), format!("{:?}", call.overrides))) {
                continue;
            }
            let f = chip.compile(&call).unwrap();
            let row = tool::row(title, &workload, &call, &f);
            let expected = SPILLS.contains(&(name, call.label));
            if (f.spilled + f.scratch > 0) != expected {
                wrong.push(format!("spills where {expected} is expected: {row}"));
            }
            if title.starts_with("navi") && f.waves < 4 {
                wrong.push(format!("fewer than 4 waves: {row}"));
            }
            if ["subgroupShuffleXor(", "subgroupBroadcast("].iter().any(|f| call.source.contains(f)) {
                subgroups.insert(call.label);
            }
        }
    }
    assert!(subgroups.len() >= 5, "only {subgroups:?} have variants by subgroups");
    assert!(wrong.is_empty(), "{}\n{}", tool::HEADING, wrong.join("\n"));
}

#[test]
fn machine_code_is_read() {
    // A loop with a branch inside it, behind another with fewer multiply-adds, both in a third; what comes before and after does not count.
    let fma = "\tv_fma_f32 v0, v1, v2, v3\n";
    let code = "BB0:\n\tv_add_f32 v0, v1, v2 ; 1234\nBB1:\n".to_string()
        + &fma.repeat(8)
        + "\ts_cbranch_scc0 BB1\nBB2:\n\tglobal_load_dwordx4 v[0:3], v4, s[0:1]\n"
        + "\tv_dual_fmac_f32 v0, v1, v2 :: v_dual_mul_f32 v3, v4, v5\n\ts_cbranch_execz BB4\nBB3:\n\tv_mov_b32 v0, v1\nBB4:\n"
        + &fma.repeat(17)
        + "\ts_cbranch_scc1 BB2 ; 5678\n\tv_mov_b32 v0, v1\n\ts_branch BB0\n\tbuffer_load_dword v0, v1, s[0:3], 0 offen\n";
    assert_eq!(tool::fma_share(&code), Some(90.0));
    assert_eq!(tool::fma_share(&fma.repeat(20)), None);
    assert_eq!(tool::loads(&code), [1, 0, 1]);
}
