//! What a run costs the host: kiln's allocations per run do not grow with the number of kernel launches beyond what wgpu
//! itself allocates for the same commands, and a run with its results is one submit. `benches/host` has the times.

use crate::counting::{Counting, allocations};
use crate::raw;
use crate::variants::device;
use kiln::ir::Type;
use kiln::{DType, Device, HostTensor, Program, Shape, Store};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A chain of products of 8 x 8 that is `n` launches long.
fn chain(device: &Device, n: usize) -> Program {
    let ty = Type { dtype: DType::F32, shape: Shape::from([8, 8]) };
    let program =
        Program::trace(&Store::new(device), &[("x", ty)], |x| vec![(0..n).fold(x[0].clone(), |y, _| y.matmul(&x[0]))]);
    let program = program.unwrap();
    assert_eq!(program.stats().dispatches, n, "one launch per product");
    program
}

/// The least allocations of several runs: pools that grow now and then are not what a run costs.
fn least(device: &Device, mut run: impl FnMut()) -> usize {
    let one = |_| {
        let count = allocations(&mut run).0;
        device.sync().unwrap();
        count
    };
    (0..12).map(one).min().unwrap()
}

#[test]
fn kiln_allocates_nothing_per_launch() {
    let Some(device) = device() else { return };
    let beyond_wgpu = |n: usize| {
        let mut program = chain(&device, n);
        let recording = program.recording().unwrap();
        let alone = least(&device, || raw::replay(&recording));
        let kiln = least(&device, || program.replay().unwrap());
        (kiln as i64 - alone as i64, kiln)
    };
    let ((few, count), (many, more)) = (beyond_wgpu(8), beyond_wgpu(200));
    assert!(more > count, "wgpu allocates for launches, so that counting works: {count} and {more}");
    assert_eq!((few, many), (0, 0), "allocations beyond those of wgpu for 8 and for 200 launches");
}

#[test]
fn a_run_with_its_results_allocates_no_more_for_more_launches() {
    let Some(device) = device() else { return };
    let x = HostTensor::zeros(DType::F32, [8, 8]);
    let beyond_wgpu = |n: usize| {
        let mut program = chain(&device, n);
        program.run(&[("x", &x)]).unwrap();
        let recording = program.recording().unwrap();
        let alone = least(&device, || raw::replay(&recording));
        let mut fetches = Vec::new();
        let kiln = least(&device, || fetches.push(program.launch(&[("x", &x)]).unwrap()));
        fetches.into_iter().for_each(|f| drop(f.wait().unwrap()));
        kiln - alone
    };
    let (few, many) = (beyond_wgpu(8), beyond_wgpu(200));
    assert!(many <= few + 1, "beyond wgpu: {few} for 8 launches, {many} for 200");
}
