//! Random graphs: every kind of operation, on shapes with 0, 1, odd and tile-edge sizes, through views and broadcasts,
//! with several outputs, states, and gradients. A seed gives the same graph everywhere. Values stay moderate, so that
//! the propagated bounds stay useful.

use crate::check::graphs::Case;
use crate::dtype::DType;
use crate::error::Result;
use crate::grad::grad;
use crate::ir::{Builder, ConvDims, InputKind, OutputKind, Prim, Tensor, Type};
use crate::ops::activation::Gelu;
use crate::ops::attention::AttentionOptions;
use crate::ops::pooling::Pool;
use crate::rng::Rng;
use crate::shape::Shape;
use crate::tensor::HostTensor;

/// Sizes of dimensions: small ones, odd ones, and those around the tiles of kernels.
const SIZES: [usize; 14] = [1, 1, 2, 3, 4, 5, 7, 8, 16, 17, 33, 63, 64, 65];
/// Largest tensor.
const MAX_ELEMS: usize = 6000;

/// The random case of a seed.
pub fn case(seed: u64) -> Result<Case> {
    generate(seed, false)
}

/// The random case of a seed in mixed precision: the same operations, rounded as [`Builder::autocast`] does.
pub fn half_case(seed: u64) -> Result<Case> {
    generate(seed, true)
}

fn generate(seed: u64, half: bool) -> Result<Case> {
    let b = Builder::new();
    let mut g = Gen {
        rng: Rng::named(seed, "random graphs"),
        b: b.clone(),
        inputs: Vec::new(),
        floats: Vec::new(),
        wrt: Vec::new(),
    };
    let first = g.shape();
    let x = g.input(first);
    g.floats.push(x);
    for _ in 0..g.rng.below(12) + 2 {
        let t = b.autocast(half, || g.step());
        if t.elems() <= MAX_ELEMS {
            g.floats.push(t);
        }
        if !b.is_ok() {
            break;
        }
    }
    g.outputs();
    Ok(Case { graph: b.build()?, inputs: g.inputs })
}

struct Gen {
    rng: Rng,
    b: Builder,
    inputs: Vec<HostTensor>,
    /// Values that further operations may take.
    floats: Vec<Tensor>,
    /// Inputs by which one may differentiate.
    wrt: Vec<Tensor>,
}

impl Gen {
    fn chance(&mut self, percent: usize) -> bool {
        self.rng.below(100) < percent
    }

    fn size(&mut self) -> usize {
        if self.chance(2) { 0 } else { SIZES[self.rng.below(SIZES.len())] }
    }

    fn shape(&mut self) -> Shape {
        let rank = self.rng.below(5);
        let mut shape: Vec<usize> = Vec::new();
        for _ in 0..rank {
            let n = self.size();
            shape.push(if shape.iter().product::<usize>() * n > MAX_ELEMS { 2 } else { n });
        }
        Shape(shape)
    }

    fn add_input(&mut self, kind: InputKind, data: HostTensor) -> Tensor {
        let ty = Type { dtype: data.dtype(), shape: data.shape.clone() };
        let t = self.b.input(format!("x{}", self.inputs.len()), kind, ty);
        self.inputs.push(data);
        t
    }

    fn data(&mut self, shape: &Shape) -> HostTensor {
        let data = (0..shape.elems()).map(|_| self.rng.range(-1.5, 1.5) as f32).collect();
        HostTensor { shape: shape.clone(), data: crate::tensor::Data::F32(data) }
    }

    fn input(&mut self, shape: impl Into<Shape>) -> Tensor {
        let data = self.data(&shape.into());
        let kind = if self.chance(25) { InputKind::State } else { InputKind::Feed };
        let t = self.add_input(kind, data);
        self.wrt.push(t.clone());
        t
    }

    fn indices(&mut self, shape: &Shape, below: usize) -> Tensor {
        let data = (0..shape.elems()).map(|_| self.rng.below(below) as i32).collect();
        self.add_input(InputKind::Feed, HostTensor { shape: shape.clone(), data: crate::tensor::Data::I32(data) })
    }

    /// One of the values so far; late ones are likelier.
    fn pick(&mut self) -> Tensor {
        let n = self.floats.len();
        let k = self.rng.below(n).max(self.rng.below(n));
        self.floats[k].clone()
    }

    /// Something that broadcasts with `t`: another value if one fits, else a new input of a part of its shape.
    fn partner(&mut self, t: &Tensor) -> Tensor {
        let start = self.rng.below(self.floats.len());
        for k in 0..self.floats.len() {
            let other = &self.floats[(start + k) % self.floats.len()];
            let shape = other.shape().broadcast(t.shape());
            if shape.is_some_and(|s| s.elems() <= MAX_ELEMS) && other.value() != t.value() {
                return other.clone();
            }
        }
        let drop = self.rng.below(t.rank() + 1);
        let mut shape: Vec<usize> = t.shape()[drop..].to_vec();
        for n in &mut shape {
            if self.rng.below(4) == 0 {
                *n = 1;
            }
        }
        self.input(shape)
    }

    fn step(&mut self) -> Tensor {
        let x = self.pick();
        match self.rng.below(20) {
            0..=3 => self.unary(&x),
            4..=8 => self.binary(&x),
            9..=11 => self.movement(&x),
            12 | 13 => self.reduction(&x),
            14 => self.product(&x),
            15 => self.convolution(),
            16 => self.indexing(&x),
            17 => self.source(&x),
            _ => self.composite(&x),
        }
    }

    fn unary(&mut self, x: &Tensor) -> Tensor {
        match self.rng.below(16) {
            0 => x.tanh(),
            1 => x.sin(),
            2 => x.cos(),
            3 => -x,
            4 => x.abs(),
            5 => (-x.abs()).exp(),
            6 => (x.square() + 0.1).sqrt(),
            7 => (x.square() + 0.5).log(),
            8 => (x.square() + 1.0).reciprocal(),
            9 => x.erf(),
            10 => x * 0.5 + 0.25,
            11 => x.detach() * 1.5,
            12 => (x * 3.0).floor() * 0.25,
            13 => x.sign(),
            14 => (-x.abs()).expm1(),
            _ => x.abs().log1p(),
        }
    }

    fn binary(&mut self, x: &Tensor) -> Tensor {
        let y = self.partner(x);
        match self.rng.below(9) {
            0 | 1 => x + &y,
            2 => x - &y,
            3 | 4 => x * &y,
            5 => x / (y.square() + 0.5),
            6 => x.maximum(&y),
            7 => x.lt(&y).select(&(x * 2.0), &y),
            _ => (x.abs() + 0.5).pow(&y.tanh()),
        }
    }

    fn movement(&mut self, x: &Tensor) -> Tensor {
        let r = x.rank();
        match self.rng.below(8) {
            0 | 1 if r > 1 => {
                let perm: Vec<isize> = self.rng.permutation(r).into_iter().map(|d| d as isize).collect();
                x.permute(&perm)
            }
            2 => self.reshaped(x),
            3 if r > 0 => {
                let d = self.rng.below(r);
                let n = x.shape()[d];
                let start = self.rng.below(n.max(1));
                let step = 1 + self.rng.below(3);
                let len = if n == 0 { 0 } else { 1 + self.rng.below((n - start).div_ceil(step)) };
                x.slice_axis(d as isize, start.min(n), len, step)
            }
            4 if r > 0 => x.flip(&[self.rng.below(r) as isize]),
            5 if r > 0 => {
                let (mut lo, mut hi, mut inner) = (vec![0i64; r], vec![0i64; r], vec![0usize; r]);
                let d = self.rng.below(r);
                lo[d] = self.rng.below(4) as i64 - i64::from(x.shape()[d] > 3);
                hi[d] = self.rng.below(4) as i64 - i64::from(x.shape()[d] > 3);
                inner[d] = usize::from(self.rng.below(4) == 0);
                x.pad_interior(&lo, &hi, &inner, 0.5)
            }
            6 if r > 0 => {
                let d = self.rng.below(r);
                let n = 1 + self.rng.below(3);
                let mut shape = x.shape().clone();
                shape.0[d] = n;
                let other = self.input(shape);
                Tensor::cat(&[x, &other, x], d as isize)
            }
            _ => {
                let d = self.rng.below(r + 1);
                let wide = x.unsqueeze(d as isize);
                let mut shape = wide.shape().clone();
                shape.0[d] = 1 + self.rng.below(4);
                wide.broadcast_to(shape)
            }
        }
    }

    fn reshaped(&mut self, x: &Tensor) -> Tensor {
        let r = x.rank();
        if r > 1 && self.chance(60) {
            let d = self.rng.below(r - 1) as isize;
            return x.flatten(d, d + 1);
        }
        let mut shape = x.shape().0.clone();
        if r > 0 {
            let d = self.rng.below(r);
            let n = shape[d];
            if let Some(f) = [2, 3, 5, 7].into_iter().find(|f| n > 0 && n.is_multiple_of(*f)) {
                shape[d] = n / f;
                shape.insert(d + 1, f);
            }
        }
        x.reshape(shape)
    }

    fn reduction(&mut self, x: &Tensor) -> Tensor {
        if x.rank() == 0 {
            return x.sum(&[], false);
        }
        let mut dims: Vec<isize> = (0..x.rank() as isize).filter(|_| self.rng.below(2) == 0).collect();
        if dims.is_empty() {
            dims.push(self.rng.below(x.rank()) as isize);
        }
        let full = dims.iter().all(|&d| x.size(d) > 0);
        let keep = self.chance(50);
        match self.rng.below(8) {
            0 | 1 => x.sum(&dims, keep) * 0.1,
            2 | 3 if full => x.mean(&dims, keep),
            4 if full => x.amax(&dims, keep),
            5 => x.cumsum(dims[0]) * 0.25,
            6 if full => x.argmax(dims[0], keep).cast(DType::F32) * 0.1,
            7 if full => {
                let sorted = self.b.apply_multi(Prim::Sort { axis: dims[0] as usize, descending: keep }, &[x]);
                sorted[0].clone()
            }
            _ => x.square().sum(&dims, keep) * 0.1,
        }
    }

    fn product(&mut self, x: &Tensor) -> Tensor {
        let x = if x.rank() == 0 { x.reshape([1, 1]) } else { x.clone() };
        let x = if x.rank() > 1 && self.chance(30) { x.t() } else { x };
        let k = x.size(-1);
        let n = self.size().max(1);
        let n = if x.elems() / k.max(1) * n > MAX_ELEMS { 3 } else { n };
        let w = if self.chance(40) { self.input([n, k]).t() } else { self.input([k, n]) };
        let y = x.matmul(&w) * (1.0 / (k.max(1) as f64).sqrt());
        match self.rng.below(4) {
            0 => y + self.input([n]),
            1 => (y + self.input([n])).relu(),
            2 => {
                let other = self.data(y.shape());
                y.tanh() + self.add_input(InputKind::Feed, other)
            }
            _ => y,
        }
    }

    fn convolution(&mut self) -> Tensor {
        let spatial = 1 + self.rng.below(2);
        let groups = 1 + self.rng.below(2);
        let (c, o) = (groups * (1 + self.rng.below(3)), groups * (1 + self.rng.below(9)));
        let mut shape = vec![1 + self.rng.below(3), c];
        let mut kernel = vec![o, c / groups];
        let mut dims = ConvDims { stride: vec![], pad: vec![], lhs_dilation: vec![], rhs_dilation: vec![], groups };
        for _ in 0..spatial {
            let (n, k) = (5 + self.rng.below(6), 1 + self.rng.below(3));
            shape.push(n);
            kernel.push(k);
            dims.stride.push(1 + self.rng.below(2));
            dims.pad.push((self.rng.below(3) as i64 - i64::from(n > 8), self.rng.below(3) as i64));
            dims.lhs_dilation.push(1 + usize::from(self.rng.below(5) == 0));
            dims.rhs_dilation.push(1 + usize::from(self.rng.below(4) == 0));
        }
        let x = self.input(shape);
        let w = self.input(kernel);
        let y = x.conv(&w, dims) * 0.3;
        if self.chance(50) {
            let mut bias = vec![1; y.rank()];
            bias[1] = o;
            (y + self.input(bias)).relu()
        } else {
            y
        }
    }

    fn indexing(&mut self, x: &Tensor) -> Tensor {
        let x = if x.rank() == 0 || x.size(0) == 0 { self.input([7, 3]) } else { x.clone() };
        let rows = x.size(0);
        let n = 1 + self.rng.below(9);
        match self.rng.below(3) {
            0 => {
                let index = self.indices(&Shape::from([n]), rows);
                x.take(&index)
            }
            1 => {
                let mut shape = x.shape().clone();
                shape.0[0] = n;
                let index = self.indices(&shape, rows);
                x.gather(0, &index)
            }
            _ => {
                let index = self.indices(&Shape::from([rows]), n);
                self.b.apply(Prim::ScatterAdd { rows: n }, &[&x, &index]) * 0.25
            }
        }
    }

    /// Values from nowhere: positions, masks, random numbers, states.
    fn source(&mut self, x: &Tensor) -> Tensor {
        match self.rng.below(4) {
            0 => {
                let n = x.size(-1);
                x + self.b.iota(n).cast(DType::F32) * 0.01
            }
            1 if x.rank() > 1 => {
                let (r, c) = (x.size(-2), x.size(-1));
                let keep = self.b.iota(c).le(&self.b.iota(r).unsqueeze(1));
                keep.select(x, &x.like(-2.0))
            }
            2 => {
                let counter = HostTensor { shape: Shape::from([4]), data: crate::tensor::Data::U32(vec![7, 1, 3, 0]) };
                let counter = self.add_input(InputKind::Feed, counter);
                let bits = self.b.apply(Prim::Random { stream: 5, shape: x.shape().clone() }, &[&counter]);
                let keep = bits.lt(&bits.like(2_147_483_648.0));
                keep.select(&(x * 2.0), &x.like(0.0))
            }
            _ => {
                let data = self.data(x.shape());
                let state = self.add_input(InputKind::State, data);
                let next = &state * 0.9 + x * 0.1;
                self.b.output(format!("x{}", self.inputs.len() - 1), OutputKind::State, &next);
                if self.chance(50) { next } else { state * 0.5 }
            }
        }
    }

    fn composite(&mut self, x: &Tensor) -> Tensor {
        let wide = x.rank() > 0 && x.elems() > 0;
        match self.rng.below(9) {
            0 if wide => x.softmax(-1),
            1 if wide => x.log_softmax(self.rng.below(x.rank()) as isize) * 0.2,
            2 if wide => {
                let n = x.size(-1);
                let (w, b) = (self.input([n]), self.input([n]));
                // A row of one element would be 0/sqrt(0 + eps): all rounding.
                if n > 1 { x.layer_norm(&[n], Some(&w), Some(&b), 1e-2) } else { x * &w }
            }
            3 => x.gelu(Gelu::Exact),
            4 => x.sigmoid(),
            5 => x.relu(),
            6 => {
                let (n, l, e) = (1 + self.rng.below(2), 1 + self.rng.below(9), 4);
                let parts = [self.input([n, 2, l, e]), self.input([n, 2, l, e]), self.input([n, 2, l, e])];
                let options = AttentionOptions { is_causal: self.chance(50), ..AttentionOptions::default() };
                parts[0].scaled_dot_product_attention(&parts[1], &parts[2], &options)
            }
            7 => {
                let n = 6 + self.rng.below(4);
                let y = self.input([2, 3, n, n]).max_pool(&Pool::new([2, 2]));
                if self.chance(50) { y * 0.5 } else { y }
            }
            _ => {
                let n = 6 + self.rng.below(4);
                self.input([2, 3, n, n]).avg_pool(&Pool::new([3, 3]).padding([1, 1]), true, None)
            }
        }
    }

    fn outputs(&mut self) {
        let mut chosen: Vec<Tensor> = vec![self.floats[self.floats.len() - 1].clone()];
        for _ in 0..self.rng.below(3) {
            chosen.push(self.pick());
        }
        for (k, t) in chosen.iter().enumerate() {
            self.b.output(format!("y{k}"), OutputKind::Fetch, t);
        }
        if self.chance(50) {
            let terms = chosen.iter().map(|t| (t * t.like(0.5) * t + t * 0.3).sum(&[], false));
            let loss = terms.reduce(|a, b| a + b);
            let wrt: Vec<&Tensor> = self.wrt.iter().take(4).collect();
            if let Some(loss) = loss {
                for (k, g) in grad(&loss, &wrt).iter().enumerate() {
                    self.b.output(format!("g{k}"), OutputKind::Fetch, g);
                }
            }
        }
    }
}
