//! Properties of passes and planner on random graphs, checked on the reference, which rounds node by node: fusion and
//! memory reuse may not change a single bit.

use kiln::backend::reference::{Array, Precision, Reference, eval};
use kiln::check::random::case;
use kiln::ir::Call;
use kiln::passes;
use kiln::plan::{Caps, Limits, Place, Plan, PlanOptions, Region, RegionKind, Step, plan};
use kiln::{Device, HostTensor};
use std::sync::Arc;

/// A device that reads strides only where it must, takes few operands and no composite.
struct Poor;

impl Caps for Poor {
    fn limits(&self) -> Limits {
        Limits { max_operands: 5, max_slot_bytes: 1 << 20 }
    }
    fn kernel(&self, call: &Call, _: &[kiln::ir::Type]) -> Result<(), String> {
        Err(format!("no {}", call.composite.name()))
    }
    fn supports(&self, region: &Region) -> Result<(), String> {
        match region.kind {
            RegionKind::Dot | RegionKind::Sort | RegionKind::Take => Err(format!("{:?} is too much", region.kind)),
            _ => Ok(()),
        }
    }
    fn reads_strided(&self, _: &Region, _: usize) -> bool {
        false
    }
}

fn options() -> [PlanOptions; 4] {
    let full = PlanOptions::default();
    [
        full,
        PlanOptions { fuse: false, ..full },
        PlanOptions { reuse_memory: false, ..full },
        PlanOptions { fuse: false, reuse_memory: false, ..full },
    ]
}

fn bits(outs: &[HostTensor]) -> Vec<Vec<u32>> {
    outs.iter().map(|t| bytemuck::cast_slice(t.as_bytes()).to_vec()).collect()
}

#[test]
fn fusion_and_memory_reuse_change_no_bit() {
    let device = Device::open("reference").unwrap();
    for seed in 5000..5150 {
        let case = case(seed).unwrap();
        let all = options().map(|o| bits(&case.outputs(&device, o).unwrap_or_else(|e| panic!("seed {seed}: {e}"))));
        for (k, other) in all.iter().enumerate().skip(1) {
            assert!(*other == all[0], "seed {seed}: {:?} differs from the default\n{}", options()[k], case.graph);
        }
    }
}

#[test]
fn passes_keep_the_meaning() {
    for seed in 6000..6150 {
        let case = case(seed).unwrap();
        let inputs: Vec<Array> = case
            .inputs
            .iter()
            .map(|t| {
                let ty = kiln::ir::Type { dtype: t.dtype(), shape: t.shape.clone() };
                Array::from_words(&ty, bytemuck::cast_slice(t.as_bytes()).to_vec())
            })
            .collect();
        let (simple, _) = passes::run(&case.graph, &Reference::new(), false).unwrap();
        let before = eval(&case.graph, &inputs, Precision::F64).unwrap();
        let after = eval(&simple, &inputs, Precision::F64).unwrap();
        for (a, b) in before.iter().zip(&after) {
            let close =
                |(x, y): (&f64, &f64)| (x - y).abs() <= 1e-9 * (1.0 + x.abs()) || x == y || x.is_nan() && y.is_nan();
            assert!(a.ty() == b.ty() && a.to_f64().iter().zip(&b.to_f64()).all(close), "seed {seed}\n{}", case.graph);
        }
    }
}

/// A mixed plan: what the poor device refuses runs on the host, with copies between.
#[test]
fn a_poor_device_gets_help_and_the_same_results() {
    let mut fallbacks = 0;
    for seed in 7000..7100 {
        let case = case(seed).unwrap();
        for options in options() {
            let plan = plan(&case.graph, &Poor, Some(&Reference::new()), &options)
                .unwrap_or_else(|e| panic!("seed {seed}: {e}\n{}", case.graph));
            fallbacks += plan.summary().fallbacks;
            for step in &plan.steps {
                let Step::Run { place: Place::Device, region } = step else { continue };
                assert!(Poor.supports(region).is_ok(), "seed {seed}");
                let strided = |a: &kiln::plan::Operand| !a.view.is_contiguous();
                let loops = matches!(region.kind, RegionKind::Pointwise | RegionKind::Reduce);
                assert!(loops || !region.args.iter().any(strided), "seed {seed}: a view that no kernel reads\n{plan}");
            }
        }
    }
    assert!(fallbacks > 50);
    let none = plan(&case(7001).unwrap().graph, &Nothing, None, &PlanOptions::default());
    assert!(none.unwrap_err().to_string().contains("not today"));
}

struct Nothing;

impl Caps for Nothing {
    fn limits(&self) -> Limits {
        Limits { max_operands: 8, max_slot_bytes: usize::MAX }
    }
    fn kernel(&self, _: &Call, _: &[kiln::ir::Type]) -> Result<(), String> {
        Err(String::new())
    }
    fn supports(&self, _: &Region) -> Result<(), String> {
        Err("not today".into())
    }
    fn reads_strided(&self, _: &Region, _: usize) -> bool {
        true
    }
}

/// The same backend twice, one half of which refuses products: results cross places and come out the same.
#[test]
fn plans_over_two_places_run() {
    let whole = Device::open("reference").unwrap();
    let halves = Device::with(Arc::new(half::Half(Reference::new())), Some(Arc::new(Reference::new())), "a test");
    for seed in 8000..8080 {
        let case = case(seed).unwrap();
        let (a, b) = (case.outputs(&whole, PlanOptions::default()), case.outputs(&halves, PlanOptions::default()));
        let (a, b) = (a.unwrap(), b.unwrap_or_else(|e| panic!("seed {seed}: {e}")));
        assert!(bits(&a) == bits(&b), "seed {seed}\n{}", case.graph);
    }
}

mod half {
    use super::*;
    use kiln::backend::{Backend, BufferId, DeviceInfo, Executable, Pending, Work};

    pub struct Half(pub Reference);

    impl Caps for Half {
        fn limits(&self) -> Limits {
            Poor.limits()
        }
        fn kernel(&self, _: &Call, _: &[kiln::ir::Type]) -> Result<(), String> {
            Ok(())
        }
        fn supports(&self, region: &Region) -> Result<(), String> {
            Poor.supports(region)
        }
        fn reads_strided(&self, _: &Region, _: usize) -> bool {
            false
        }
    }

    impl Backend for Half {
        fn info(&self) -> DeviceInfo {
            self.0.info()
        }
        fn as_caps(&self) -> &dyn Caps {
            self
        }
        fn alloc(&self, bytes: usize) -> kiln::Result<BufferId> {
            self.0.alloc(bytes)
        }
        fn free(&self, buffer: BufferId) {
            self.0.free(buffer);
        }
        fn write(&self, buffer: BufferId, bytes: &[u8]) -> kiln::Result<()> {
            self.0.write(buffer, bytes)
        }
        fn read(&self, buffer: BufferId, bytes: usize) -> kiln::Result<Box<dyn Pending>> {
            self.0.read(buffer, bytes)
        }
        fn compile(&self, work: &[Work]) -> kiln::Result<Box<dyn Executable>> {
            self.0.compile(work)
        }
        fn sync(&self) -> kiln::Result<()> {
            self.0.sync()
        }
        fn check_status(&self) -> kiln::Result<()> {
            self.0.check_status()
        }
    }
}

#[test]
fn reuse_saves_memory_and_never_costs() {
    let bytes = |p: &Plan| p.summary().transient_bytes;
    let (mut with, mut without) = (0, 0);
    for seed in 9000..9100 {
        let graph = case(seed).unwrap().graph;
        let [full, _, aside, _] = options().map(|o| plan(&graph, &Reference::new(), None, &o).unwrap());
        assert!(bytes(&full) <= bytes(&aside), "seed {seed}");
        (with, without) = (with + bytes(&full), without + bytes(&aside));
    }
    assert!(with * 4 < without * 3, "{with} of {without} bytes");
}
