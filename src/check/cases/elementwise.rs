//! Pointwise primitives: every function on its domain, broadcasting, integers, special values, random bits.

use super::{SIZES, by};
use crate::check::case::{Case, Gen};
use crate::dtype::{DType, Scalar};
use crate::ir::{Prim, Tensor};

type Function = fn(&Tensor) -> Tensor;
type Pair = fn(&Tensor, &Tensor) -> Tensor;

pub(super) fn cases() -> Vec<Case> {
    [unary(), binary(), integers(), choices(), special(), random()].concat()
}

fn unary() -> Vec<Case> {
    use Gen::{Normal, Uniform};
    // Name, domain, function, whether it is differentiable at all.
    let table: Vec<(&str, Gen, Function, bool)> = vec![
        ("neg", Normal(0.0, 1.0), |x| -x, true),
        ("exp", Uniform(-15.0, 15.0), |x| x.exp(), true),
        ("expm1", Uniform(-3.0, 3.0), |x| x.expm1(), true),
        ("log", Uniform(0.05, 10.0), |x| x.log(), true),
        ("log1p", Uniform(-0.9, 10.0), |x| x.log1p(), true),
        ("sqrt", Uniform(0.05, 10.0), |x| x.sqrt(), true),
        ("recip", Uniform(0.2, 4.0), |x| x.reciprocal(), true),
        ("sin", Uniform(-20.0, 20.0), |x| x.sin(), true),
        ("cos", Uniform(-20.0, 20.0), |x| x.cos(), true),
        ("tanh", Normal(0.0, 3.0), |x| x.tanh(), true),
        ("erf", Normal(0.0, 2.0), |x| x.erf(), true),
        ("floor", Uniform(-5.0, 5.0), |x| x.floor(), true),
        ("round", Uniform(-5.0, 5.0), |x| x.round(), true),
        ("sign", Normal(0.0, 1.0), |x| x.sign(), true),
        ("abs", Normal(0.0, 1.0), |x| x.abs(), true),
        ("stop_grad", Normal(0.0, 1.0), |x| x.detach(), false),
        ("square", Normal(0.0, 1.0), |x| x.square(), true),
        ("rsqrt", Uniform(0.05, 10.0), |x| x.rsqrt(), true),
    ];
    let mut out = Vec::new();
    for (name, values, f, differentiable) in table {
        for n in SIZES {
            let case = Case::one(format!("{name}/{n}"), move |t| f(&t[0])).f32([n], values.clone());
            // The derivative is the same function of each element: one size of them is enough.
            out.push(if differentiable && n == 65 { case.grad() } else { case });
        }
    }
    out.push(Case::one("exp/0", |t| t[0].exp()).f32([0], Gen::Normal(0.0, 1.0)).grad());
    out.push(Case::one("exp/scalar", |t| t[0].exp()).f32([], Gen::Normal(0.0, 1.0)).grad());
    let near_zero = Gen::Fixed([1e-3, -1e-3, 1e-5, -1e-5, 1e-7, -1e-7, 1e-10, 0.0].to_vec());
    out.push(Case::one("expm1/near_zero", |t| t[0].expm1()).f32([8], near_zero.clone()));
    out.push(Case::one("log1p/near_zero", |t| t[0].log1p()).f32([8], near_zero));
    out.push(
        Case::one("tanh/large", |t| t[0].tanh()).f32([6], Gen::Fixed(vec![16.0, -16.0, 90.0, -90.0, 1e30, -1e30])),
    );
    out
}

fn binary() -> Vec<Case> {
    use Gen::{Distinct, Normal, Uniform};
    let table: Vec<(&str, Gen, Gen, Pair, bool)> = vec![
        ("add", Normal(0.0, 1.0), Normal(0.0, 1.0), |a, b| a + b, true),
        ("sub", Normal(0.0, 1.0), Normal(0.0, 1.0), |a, b| a - b, true),
        ("mul", Normal(0.0, 1.0), Normal(0.0, 1.0), |a, b| a * b, true),
        ("div", Normal(0.0, 1.0), Uniform(0.3, 3.0), |a, b| a / b, true),
        ("rem", Normal(0.0, 5.0), Uniform(0.7, 2.0), |a, b| a.rem(b), true),
        ("rem/negative", Normal(0.0, 5.0), Uniform(-2.0, -0.7), |a, b| a.rem(b), true),
        ("pow", Uniform(0.1, 4.0), Normal(0.0, 2.0), |a, b| a.pow(b), true),
        ("max", Distinct, Normal(0.0, 1.0), |a, b| a.maximum(b), true),
        ("min", Distinct, Normal(0.0, 1.0), |a, b| a.minimum(b), true),
        ("lt", Normal(0.0, 1.0), Normal(0.0, 1.0), |a, b| a.lt(b), false),
        ("le", Normal(0.0, 1.0), Normal(0.0, 1.0), |a, b| a.le(b), false),
        ("eq", Gen::Int(0, 3), Gen::Int(0, 3), |a, b| a.eq(b), false),
    ];
    let mut out = Vec::new();
    for (name, a, b, f, differentiable) in table {
        for shapes in [[vec![65], vec![65]], [vec![3, 1], vec![1, 65]], [vec![2, 3, 5], vec![]]] {
            let label = format!("{name}/{}_{}", by(&shapes[0]), by(&shapes[1]));
            let case = Case::one(label, move |t| f(&t[0], &t[1]))
                .f32(shapes[0].clone(), a.clone())
                .f32(shapes[1].clone(), b.clone());
            out.push(if differentiable { case.grad() } else { case });
        }
    }
    out.push(
        Case::one("mul/257x63", |t| &t[0] * &t[1]).f32([257, 63], Normal(0.0, 1.0)).f32([257, 63], Normal(0.0, 1.0)),
    );
    out
}

fn integers() -> Vec<Case> {
    let table: Vec<(&str, Pair)> = vec![
        ("add", |a, b| a + b),
        ("sub", |a, b| a - b),
        ("mul", |a, b| a * b),
        ("div", |a, b| a / b),
        ("rem", |a, b| a.rem(b)),
        ("max", |a, b| a.maximum(b)),
        ("min", |a, b| a.minimum(b)),
        ("lt", |a, b| a.lt(b)),
        ("le", |a, b| a.le(b)),
        ("eq", |a, b| a.eq(b)),
    ];
    let mut out = Vec::new();
    for (name, f) in table {
        // Divisors of 0 included.
        out.push(
            Case::one(format!("{name}_i32/65"), move |t| f(&t[0], &t[1]))
                .i32([65], Gen::Int(-20, 20))
                .i32([65], Gen::Int(-4, 5)),
        );
        out.push(
            Case::one(format!("{name}_u32/65"), move |t| f(&t[0], &t[1]))
                .input(DType::U32, [65], Gen::Int(0, 40))
                .input(DType::U32, [65], Gen::Int(0, 9)),
        );
    }
    out.push(Case::new("signed_i32/65", |_, t| vec![-&t[0], t[0].abs(), t[0].sign()]).i32([65], Gen::Int(-20, 20)));
    let logic = |_: &crate::ir::Builder, t: &[Tensor]| vec![t[0].and(&t[1]), t[0].or(&t[1]), t[0].not()];
    out.push(Case::new("logic/65", logic).bool([65], Gen::Bool(0.5)).bool([65], Gen::Bool(0.5)));
    let all = [DType::F32, DType::I32, DType::U32, DType::Bool];
    for from in all {
        let values = if from == DType::Bool { Gen::Bool(0.5) } else { Gen::Uniform(0.0, 50.0) };
        let casts = move |_: &crate::ir::Builder, t: &[Tensor]| all.iter().map(|&d| t[0].cast(d)).collect();
        out.push(Case::new(format!("cast/{from}"), casts).input(from, [65], values));
    }
    let edges = Gen::Fixed(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 3e9, -3e9, 2.5, -2.5, -0.5]);
    out.push(Case::one("cast/saturates", |t| t[0].cast(DType::I32)).f32([8], edges));
    out
}

fn choices() -> Vec<Case> {
    let relu = |x: &Tensor| x.gt(&x.like(0.0)).select(x, &x.like(0.0));
    vec![
        Case::one("select/65", |t| t[0].select(&t[1], &t[2]))
            .bool([65], Gen::Bool(0.5))
            .f32([65], Gen::Normal(0.0, 1.0))
            .f32([65], Gen::Normal(0.0, 1.0))
            .grad(),
        Case::one("select/broadcast", |t| t[0].select(&t[1], &t[2]))
            .bool([3, 1], Gen::Bool(0.5))
            .f32([1, 65], Gen::Normal(0.0, 1.0))
            .f32([], Gen::Normal(0.0, 1.0))
            .grad(),
        Case::one("relu/257", move |t| relu(&t[0])).f32([257], Gen::Normal(0.0, 1.0)).grad(),
        Case::one("gelu/257", |t| &t[0] * 0.5 * ((&t[0] * std::f64::consts::FRAC_1_SQRT_2).erf() + 1.0))
            .f32([257], Gen::Normal(0.0, 2.0))
            .grad(),
        Case::one("sigmoid/257", |t| 1.0 / ((-&t[0]).exp() + 1.0)).f32([257], Gen::Normal(0.0, 3.0)).grad(),
        Case::new("pointwise_chain/65x257", |_, t| {
            let y = (&t[0] * &t[1]).tanh() + &t[2];
            vec![y.square(), (&y * 0.5).exp()]
        })
        .f32([65, 257], Gen::Normal(0.0, 1.0))
        .f32([257], Gen::Normal(0.0, 1.0))
        .f32([65, 1], Gen::Normal(0.0, 1.0))
        .grad(),
    ]
}

/// NaN, infinities and signed zeros where their treatment is defined.
fn special() -> Vec<Case> {
    let (nan, inf) = (f64::NAN, f64::INFINITY);
    let a = Gen::Fixed(vec![nan, 1.0, nan, inf, -inf, 0.0, -0.0, 2.0, inf]);
    let b = Gen::Fixed(vec![1.0, nan, nan, 1.0, 1.0, -0.0, 0.0, inf, -inf]);
    let pairs = |_: &crate::ir::Builder, t: &[Tensor]| {
        let (a, b) = (&t[0], &t[1]);
        vec![a.maximum(b), a.minimum(b), a.lt(b), a.le(b), a.eq(b), a + b]
    };
    let x = Gen::Fixed(vec![nan, inf, -inf, 0.0, -0.0, 1.0, -1.0]);
    let singles = |_: &crate::ir::Builder, t: &[Tensor]| {
        let x = &t[0];
        vec![
            x.is_finite(),
            x.abs(),
            x.exp(),
            x.tanh(),
            x.erf(),
            x.sign(),
            x.floor(),
            x.gt(&x.like(0.0)).select(x, &x.like(0.0)),
        ]
    };
    let roots = |_: &crate::ir::Builder, t: &[Tensor]| vec![t[0].log(), t[0].sqrt(), t[0].log1p(), t[0].reciprocal()];
    // pow where a rule by logarithms would fail: zero and negative bases, exponent 0.
    let base = Gen::Fixed(vec![0.0, 0.0, -2.0, -2.0, 1.0, 3.0, 0.0]);
    let exponent = Gen::Fixed(vec![0.0, 2.0, 2.0, 3.0, 7.0, 0.0, -1.0]);
    vec![
        Case::new("special/pairs", pairs).f32([9], a).f32([9], b),
        Case::new("special/singles", singles).f32([7], x),
        Case::new("special/roots", roots).f32([4], Gen::Fixed(vec![nan, inf, 0.0, 1.0])),
        Case::one("special/pow", |t| t[0].pow(&t[1])).f32([7], base).f32([7], exponent),
    ]
}

fn random() -> Vec<Case> {
    let draw = |shape: Vec<usize>| {
        Case::new(format!("random/{}", by(&shape)), move |b, t| {
            let bits = b.apply(Prim::Random { stream: 77, shape: shape.clone().into() }, &[&t[0]]);
            let eight = b.constant(Scalar::U32(256)).broadcast_to(bits.shape());
            vec![bits.clone(), (bits / eight).cast(DType::F32) * (1.0 / 16_777_216.0)]
        })
        .input(DType::U32, [4], Gen::Int(1, 1000))
    };
    vec![draw(vec![1]), draw(vec![65]), draw(vec![3, 257])]
}
