//! What is measured: the operations that training spends its time in, at sizes that other engines publish. Each workload is
//! an ordinary graph, so that what is timed is what users run.

use crate::ir::{ConvDims, Tensor};
use crate::ops::attention::AttentionOptions;
use crate::ops::batch_norm::BatchNormOptions;
use crate::shape::Shape;

/// Appends a workload's operation to the graph of its inputs; returns the results.
pub type Build = Box<dyn Fn(&[Tensor]) -> Vec<Tensor>>;

/// One operation at one size.
pub struct Workload {
    /// Name, such as `matmul_512`.
    pub name: String,
    /// Shapes of the inputs, all f32 and filled with normal noise.
    pub inputs: Vec<Shape>,
    /// The operation.
    pub build: Build,
    /// Floating-point operations of the textbook algorithm; 0 where bytes are what counts.
    pub flops: f64,
    /// Bytes that must move at least: every input read once and every result written once.
    pub bytes: f64,
}

pub(super) fn workload(
    name: impl Into<String>,
    inputs: &[&[usize]],
    flops: f64,
    elems: f64,
    build: impl Fn(&[Tensor]) -> Vec<Tensor> + 'static,
) -> Workload {
    let inputs = inputs.iter().map(|&s| Shape::from(s)).collect();
    Workload { name: name.into(), inputs, build: Box::new(build), flops, bytes: 4.0 * elems }
}

/// The results followed by the gradients of their dot product with the last input, with respect to all other inputs.
fn with_grads(f: impl Fn(&[Tensor]) -> Tensor + 'static) -> impl Fn(&[Tensor]) -> Vec<Tensor> + 'static {
    move |x| {
        let (cotangent, args) = (&x[x.len() - 1], &x[..x.len() - 1]);
        let y = f(args);
        let wrt: Vec<&Tensor> = args.iter().collect();
        let grads = crate::grad::vjp(std::slice::from_ref(&y), &[Some(cotangent.clone())], &wrt);
        let zero = |t: &Tensor| t.like(0.0);
        std::iter::once(y).chain(grads.into_iter().zip(args).map(|(g, a)| g.unwrap_or_else(|| zero(a)))).collect()
    }
}

pub(super) fn matmul(name: String, m: usize, k: usize, n: usize) -> Workload {
    let (flops, elems) = (2.0 * (m * k * n) as f64, (m * k + k * n + m * n) as f64);
    workload(name, &[&[m, k], &[k, n]], flops, elems, |x| vec![x[0].matmul(&x[1])])
}

fn conv(name: &str, n: usize, c: usize, hw: usize, o: usize, grads: bool) -> Workload {
    let (x, w, y): ([usize; 4], [usize; 4], [usize; 4]) = ([n, c, hw, hw], [o, c, 3, 3], [n, o, hw, hw]);
    let flops = 2.0 * 9.0 * (n * c * hw * hw * o) as f64;
    let elems = (n * hw * hw * (c + o) + 9 * c * o) as f64;
    let f = |x: &[Tensor]| {
        let pad = ConvDims {
            stride: vec![1, 1],
            pad: vec![(1, 1), (1, 1)],
            lhs_dilation: vec![1, 1],
            rhs_dilation: vec![1, 1],
            groups: 1,
        };
        x[0].conv(&x[1], pad)
    };
    if grads {
        workload(format!("conv_{name}_fwdbwd"), &[&x, &w, &y], 3.0 * flops, 3.0 * elems, with_grads(f))
    } else {
        workload(format!("conv_{name}_fwd"), &[&x, &w], flops, elems, move |x| vec![f(x)])
    }
}

fn attention(causal: bool, grads: bool) -> Workload {
    let shape = [4usize, 8, 256, 64];
    // Two products forward, five backward; the causal half is not counted off, as others do not.
    let flops = 4.0 * (4 * 8 * 256 * 256 * 64) as f64;
    let elems = (4 * 8 * 256 * 64) as f64;
    let f = move |x: &[Tensor]| {
        x[0].scaled_dot_product_attention(&x[1], &x[2], &AttentionOptions { is_causal: causal, ..Default::default() })
    };
    let name = if causal { "sdpa_causal" } else { "sdpa_full" };
    let s: &[usize] = &shape;
    if grads {
        workload(format!("{name}_fwdbwd"), &[s, s, s, s], 3.5 * flops, 9.0 * elems, with_grads(f))
    } else {
        workload(format!("{name}_fwd"), &[s, s, s], flops, 4.0 * elems, move |x| vec![f(x)])
    }
}

fn batch_norm(grads: bool) -> Workload {
    let x: &[usize] = &[32, 64, 28, 28];
    let elems = (32 * 64 * 28 * 28) as f64;
    let f = |x: &[Tensor]| {
        let options = BatchNormOptions { weight: Some(&x[1]), bias: Some(&x[2]), training: true, ..Default::default() };
        x[0].batch_norm(&options).output
    };
    if grads {
        workload("batchnorm_fwdbwd", &[x, &[64], &[64], x], 0.0, 5.0 * elems, with_grads(f))
    } else {
        workload("batchnorm_fwd", &[x, &[64], &[64]], 0.0, 2.0 * elems, move |x| vec![f(x)])
    }
}

fn layer_norm(grads: bool) -> Workload {
    let x: &[usize] = &[4096, 512];
    let elems = (4096 * 512) as f64;
    let f = |x: &[Tensor]| x[0].layer_norm(&[512], Some(&x[1]), Some(&x[2]), 1e-5);
    if grads {
        workload("layernorm_fwdbwd", &[x, &[512], &[512], x], 0.0, 5.0 * elems, with_grads(f))
    } else {
        workload("layernorm_fwd", &[x, &[512], &[512]], 0.0, 2.0 * elems, move |x| vec![f(x)])
    }
}

fn gelu(x: &Tensor) -> Tensor {
    x * 0.5 * ((x * std::f64::consts::FRAC_1_SQRT_2).erf() + 1.0)
}

/// All workloads, in the order in which they are reported.
pub fn all() -> Vec<Workload> {
    let mut list = vec![workload("empty", &[&[1]], 0.0, 2.0, |x| vec![&x[0] + 1.0])];
    for n in [128, 256, 512, 1024] {
        list.push(matmul(format!("matmul_{n}"), n, n, n));
    }
    for (m, k, n) in [(128, 784, 512), (64, 3136, 128), (1, 1024, 1024)] {
        list.push(matmul(format!("matmul_{m}x{k}x{n}"), m, k, n));
    }
    let bmm = (2.0 * (32 * 128 * 64 * 128) as f64, (32 * (2 * 128 * 64 + 128 * 128)) as f64);
    list.push(workload("bmm_32x128x64x128", &[&[32, 128, 64], &[32, 64, 128]], bmm.0, bmm.1, |x| {
        vec![x[0].matmul(&x[1])]
    }));
    for grads in [false, true] {
        list.push(conv("32x16x28_32", 32, 16, 28, 32, grads));
        list.push(conv("8x64x32_64", 8, 64, 32, 64, grads));
    }
    for (rows, n) in [(4096usize, 1024usize), (256, 128)] {
        let elems = 2.0 * (rows * n) as f64;
        list.push(workload(format!("softmax_{rows}x{n}"), &[&[rows, n]], 0.0, elems, |x| vec![x[0].softmax(-1)]));
    }
    for causal in [false, true] {
        list.extend([attention(causal, false), attention(causal, true)]);
    }
    list.extend([batch_norm(false), batch_norm(true), layer_norm(false), layer_norm(true)]);
    let n = 4 << 20;
    list.push(workload("elt_gelu_chain_4M_scalar", &[&[n]], 0.0, 2.0 * n as f64, |x| {
        vec![gelu(&(&x[0] * 1.1 + 0.1)) + 0.3]
    }));
    list.push(workload("elt_gelu_chain_4M_tensor", &[&[n], &[n], &[n], &[n]], 0.0, 5.0 * n as f64, |x| {
        vec![gelu(&(&x[0] * &x[1] + &x[2])) + &x[3]]
    }));
    list.push(workload("sum_4M", &[&[n]], 0.0, n as f64, |x| vec![x[0].sum(&[], false)]));
    list.push(workload("sum_axis0_4096x1024", &[&[4096, 1024]], 0.0, n as f64, |x| vec![x[0].sum(&[0], false)]));
    list
}
