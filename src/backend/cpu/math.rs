//! Elementary functions as straight-line code that a loop vectoriser takes: no calls, no branches, only selects. Errors
//! are 1-2 units in the last place; NaN, infinities, zeros and denormals come out as the standard functions give them.
//! Sine, cosine, expm1 and log1p compute in f64 (twice the time, no cancellation to think about).

use std::f32::consts::LOG2_E;

/// 1.5 * 2^23: added and subtracted, it rounds a small float to an integer, whose value is in the low bits meanwhile.
const ROUND: f32 = 12_582_912.0;
/// 1.5 * 2^52: the same for f64.
const ROUND64: f64 = 6_755_399_441_055_744.0;
/// ln 2 in two parts; the first has trailing zeros, so that its product with an exponent is exact.
const LN2_HI: f32 = 0.693_145_75;
const LN2_LO: f32 = 1.428_606_8e-6;

/// e^x: 2^n * e^r with |r| <= ln(2)/2, e^r by its Taylor polynomial of degree 7 (relative truncation 5e-9).
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // Below -104 the result rounds to 0, above 89 to infinity. NaN passes both comparisons.
    let x = if x > 89.0 { 89.0 } else { x };
    let x = if x < -104.0 { -104.0 } else { x };
    let t = x.mul_add(LOG2_E, ROUND);
    let n = t - ROUND;
    let i = (t.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let r = n.mul_add(-LN2_LO, n.mul_add(-LN2_HI, x));
    let mut p = 1.0f32 / 5040.0;
    p = p.mul_add(r, 1.0 / 720.0);
    p = p.mul_add(r, 1.0 / 120.0);
    p = p.mul_add(r, 1.0 / 24.0);
    p = p.mul_add(r, 1.0 / 6.0);
    p = p.mul_add(r, 0.5);
    p = p.mul_add(r * r, r) + 1.0;
    // Two factors, because 2^n alone leaves the exponent's range at both ends.
    let half = i >> 1;
    let rest = i.wrapping_sub(half);
    p * pow2(half) * pow2(rest)
}

#[inline(always)]
fn pow2(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// ln x: x = 2^e * (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)), ln(1+f) = 2 atanh(f / (2 + f)) by its series.
#[inline(always)]
pub(super) fn log(x: f32) -> f32 {
    let tiny = x < f32::MIN_POSITIVE;
    let scaled = if tiny { x * 8_388_608.0 } else { x };
    let shift = if tiny { -23i32 } else { 0 };
    const SQRT_HALF: u32 = 0x3f35_04f3;
    let above = scaled.to_bits().wrapping_sub(SQRT_HALF);
    let e = ((above as i32) >> 23).wrapping_add(shift) as f32;
    let f = f32::from_bits((above & 0x007f_ffff).wrapping_add(SQRT_HALF)) - 1.0;
    let s = f / (2.0 + f);
    let z = s * s;
    let r = z * z.mul_add(z.mul_add(z.mul_add(2.0 / 9.0, 2.0 / 7.0), 2.0 / 5.0), 2.0 / 3.0);
    let half = 0.5 * f * f;
    let y = e * LN2_HI - ((half - s.mul_add(half + r, e * LN2_LO)) - f);
    let y = if x == f32::INFINITY { x } else { y };
    let y = if x == 0.0 { f32::NEG_INFINITY } else { y };
    // Not `x < 0`: a NaN must come out as one.
    if x >= 0.0 { y } else { f32::NAN }
}

/// tanh x: near 0 an odd polynomial (minimax in x^2 on [0, 0.625^2]), else 1 - 2 / (e^2|x| + 1) with the sign of x.
#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    let t = x * x;
    let mut p = -0.006_096_941_5f32;
    p = p.mul_add(t, 0.020_997_357);
    p = p.mul_add(t, -0.053_850_953);
    p = p.mul_add(t, 0.133_327_7);
    p = p.mul_add(t, -0.333_333_3);
    let small = (x * t).mul_add(p, x);
    let a = x.abs();
    let large = (1.0 - 2.0 / (exp(2.0 * a) + 1.0)).copysign(x);
    if a < 0.625 { small } else { large }
}

/// erf x: near 0 an odd polynomial (minimax), else 1 - e^(-|x| q(|x|)) with q fitted to -ln(erfc)/x on [0.85, 4].
#[inline(always)]
pub(super) fn erf(x: f32) -> f32 {
    let t = x * x;
    let mut p = -0.000_631_512_9f32;
    p = p.mul_add(t, 0.005_051_094_8);
    p = p.mul_add(t, -0.026_802_548);
    p = p.mul_add(t, 0.112_827_174);
    p = p.mul_add(t, -0.376_125_72);
    p = p.mul_add(t, std::f32::consts::FRAC_2_SQRT_PI);
    let small = x * p;
    let a = x.abs();
    // Beyond 4, erfc is below 2e-8 and the result 1; NaN stays.
    let b = if a > 4.0 { 4.0 } else { a };
    let mut q = -5.429_647e-7f32;
    q = q.mul_add(b, 2.575_634_2e-5);
    q = q.mul_add(b, -0.000_437_394_2);
    q = q.mul_add(b, 0.004_069_499);
    q = q.mul_add(b, -0.024_624_046);
    q = q.mul_add(b, 0.107_203_27);
    q = q.mul_add(b, 0.634_586_8);
    q = q.mul_add(b, 1.128_782_1);
    let large = (1.0 - exp(-b * q)).copysign(x);
    if a < 0.85 { small } else { large }
}

/// e^x in f64 with a relative error of about 1e-13, for |x| up to about 700.
#[inline(always)]
fn exp64(x: f64) -> f64 {
    let t = x.mul_add(std::f64::consts::LOG2_E, ROUND64);
    let n = t - ROUND64;
    let i = t.to_bits().wrapping_sub(ROUND64.to_bits());
    let r = n.mul_add(-std::f64::consts::LN_2, x);
    let mut p = 1.0 / 39_916_800.0;
    p = r.mul_add(p, 1.0 / 3_628_800.0);
    p = r.mul_add(p, 1.0 / 362_880.0);
    p = r.mul_add(p, 1.0 / 40_320.0);
    p = r.mul_add(p, 1.0 / 5_040.0);
    p = r.mul_add(p, 1.0 / 720.0);
    p = r.mul_add(p, 1.0 / 120.0);
    p = r.mul_add(p, 1.0 / 24.0);
    p = r.mul_add(p, 1.0 / 6.0);
    p = r.mul_add(p, 0.5);
    p = r.mul_add(p, 1.0);
    p = r.mul_add(p, 1.0);
    p * f64::from_bits(i.wrapping_add(1023) << 52)
}

/// e^x - 1: its series below 1e-4, else the difference in f64.
#[inline(always)]
pub(super) fn expm1(x: f32) -> f32 {
    let c = if x > 100.0 { 100.0 } else { x };
    let c = if c < -100.0 { -100.0 } else { c } as f64;
    let wide = (exp64(c) - 1.0) as f32;
    let near = (0.5 * x).mul_add(x, x);
    if x.abs() < 1e-4 { near } else { wide }
}

/// ln(1 + x): its series below 1e-4, else the logarithm in f64.
#[inline(always)]
pub(super) fn log1p(x: f32) -> f32 {
    let near = x - 0.5 * x * x;
    let v = 1.0 + x as f64;
    const SQRT_HALF: u64 = 0x3fe6_a09e_667f_3bcd;
    let above = v.to_bits().wrapping_sub(SQRT_HALF);
    // The exponent as a float without an integer conversion, which AVX2 lacks for 64 bits.
    let biased = (above >> 52) & 0x7ff;
    let signed = biased.wrapping_add(1024) & 0x7ff;
    let e = f64::from_bits(ROUND64.to_bits().wrapping_add(signed)) - ROUND64 - 1024.0;
    let f = f64::from_bits((above & 0x000f_ffff_ffff_ffff).wrapping_add(SQRT_HALF)) - 1.0;
    let s = f / (2.0 + f);
    let z = s * s;
    let mut r = 2.0 / 13.0;
    r = z.mul_add(r, 2.0 / 11.0);
    r = z.mul_add(r, 2.0 / 9.0);
    r = z.mul_add(r, 2.0 / 7.0);
    r = z.mul_add(r, 2.0 / 5.0);
    r = z.mul_add(r, 2.0 / 3.0);
    r = z.mul_add(r, 2.0);
    let y = e.mul_add(std::f64::consts::LN_2, s * r) as f32;
    let y = if x.abs() < 1e-4 { near } else { y };
    let y = if x == f32::INFINITY { x } else { y };
    let y = if x == -1.0 { f32::NEG_INFINITY } else { y };
    if x >= -1.0 { y } else { f32::NAN }
}

/// Largest |x| for which [`sin`] and [`cos`] reduce exactly enough; beyond, the standard functions take over.
pub(super) const TRIG_LIMIT: f32 = 1e8;

/// The quadrant of x and the rest in [-pi/4, pi/4], by Cody and Waite's two-part constant in f64.
#[inline(always)]
fn quadrant(x: f32) -> (u64, f64) {
    const PIO2_HI: f64 = std::f64::consts::FRAC_PI_2;
    const PIO2_LO: f64 = 6.123_233_995_736_766e-17;
    let x = x as f64;
    let t = x.mul_add(std::f64::consts::FRAC_2_PI, ROUND64);
    let n = t - ROUND64;
    (t.to_bits(), n.mul_add(-PIO2_LO, n.mul_add(-PIO2_HI, x)))
}

#[inline(always)]
fn sin_or_cos(quadrant: u64, r: f64) -> f32 {
    let z = r * r;
    let s =
        z.mul_add(z.mul_add(z.mul_add(z.mul_add(1.0 / 362_880.0, -1.0 / 5_040.0), 1.0 / 120.0), -1.0 / 6.0), 1.0) * r;
    let c = z.mul_add(
        z.mul_add(z.mul_add(z.mul_add(z.mul_add(-1.0 / 3_628_800.0, 1.0 / 40_320.0), -1.0 / 720.0), 1.0 / 24.0), -0.5),
        1.0,
    );
    let y = if quadrant & 1 == 0 { s } else { c };
    (if quadrant & 2 == 0 { y } else { -y }) as f32
}

/// sin x for |x| <= [`TRIG_LIMIT`].
#[inline(always)]
pub(super) fn sin(x: f32) -> f32 {
    let (q, r) = quadrant(x);
    let y = sin_or_cos(q, r);
    // Keeps the sign of -0, which the polynomial's fused sums lose.
    if x == 0.0 { x } else { y }
}

/// cos x for |x| <= [`TRIG_LIMIT`].
#[inline(always)]
pub(super) fn cos(x: f32) -> f32 {
    let (q, r) = quadrant(x);
    sin_or_cos(q.wrapping_add(1), r)
}

/// The larger; NaN if either is.
#[inline(always)]
pub(super) fn max(a: f32, b: f32) -> f32 {
    if a > b || a.is_nan() { a } else { b }
}

/// The smaller; NaN if either is.
#[inline(always)]
pub(super) fn min(a: f32, b: f32) -> f32 {
    if a < b || a.is_nan() { a } else { b }
}

/// -1, 0 or 1; 0 for NaN.
#[inline(always)]
pub(super) fn sign(x: f32) -> f32 {
    if x > 0.0 {
        1.0
    } else if x < 0.0 {
        -1.0
    } else {
        0.0
    }
}

/// Remainder with the sign of b, as Python's `%`.
#[inline(always)]
pub(super) fn rem(a: f32, b: f32) -> f32 {
    let r = a % b;
    if r != 0.0 && (r < 0.0) != (b < 0.0) { r + b } else { r }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Distance from the f64 value in units in the last place of the f32 result; NaN and infinities must agree.
    fn ulps(got: f32, want: f64) -> f64 {
        let w = want as f32;
        if w.is_nan() || got.is_nan() {
            return if w.is_nan() && got.is_nan() { 0.0 } else { f64::INFINITY };
        }
        if w.is_infinite() || got.is_infinite() {
            return if w == got { 0.0 } else { f64::INFINITY };
        }
        let ulp = f32::from_bits(w.abs().to_bits() + 1) as f64 - w.abs() as f64;
        (got as f64 - want).abs() / ulp
    }

    fn points() -> Vec<f32> {
        let mut xs = vec![0.0, -0.0, 1.0, -1.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1e-40, -1e-40, f32::MAX];
        xs.extend([
            f32::MIN_POSITIVE,
            -f32::MIN_POSITIVE,
            88.7,
            88.8,
            -103.9,
            -104.5,
            0.625,
            0.85,
            9.1,
            4.0,
            -5.0,
            1e-4,
        ]);
        for i in 0..60_000u32 {
            let t = i as f32 / 30_000.0 - 1.0;
            xs.extend([t, 10.0 * t, 100.0 * t, 1e-3 * t, 1e4 * t]);
            xs.push(f32::from_bits(i.wrapping_mul(0x9e37_79b9)));
        }
        xs
    }

    fn worst(name: &str, f: impl Fn(f32) -> f32, want: impl Fn(f64) -> f64, bound: f64, keep: impl Fn(f32) -> bool) {
        for x in points().into_iter().filter(|&x| keep(x)) {
            let (got, want) = (f(x), want(x as f64));
            let err = ulps(got, want);
            assert!(err <= bound, "{name}({x:e}) = {got:e}, want {want:e}: {err} ulp");
        }
    }

    #[test]
    fn within_a_few_ulps_of_f64_also_at_the_edges() {
        let all = |_: f32| true;
        worst("exp", exp, f64::exp, 2.0, all);
        worst("log", log, f64::ln, 2.0, all);
        worst("tanh", tanh, f64::tanh, 3.0, all);
        worst("expm1", expm1, f64::exp_m1, 1.0, all);
        worst("log1p", log1p, f64::ln_1p, 1.0, all);
        worst("sin", sin, f64::sin, 1.0, |x| !(x.abs() > 1e4));
        worst("cos", cos, f64::cos, 1.0, |x| !(x.abs() > 1e4));
        for (x, y) in [(0.1, 0.112_462_916_018_284_9), (0.5, 0.520_499_877_813_046_5), (1.0, 0.842_700_792_949_714_9)] {
            assert!(ulps(erf(x), y + 0.0) <= 3.0 || (x as f64 - 0.1).abs() < 1e-8 && (erf(x) as f64 - y).abs() < 2e-8);
        }
        for (x, y) in [(2.0, 0.995_322_265_018_952_7), (3.0, 0.999_977_909_503_001_4), (0.84, 0.765_142_711_454_994_4)]
        {
            assert!((erf(x) as f64 - y).abs() < 1.5e-7, "erf({x}) = {}", erf(x));
        }
        assert_eq!([erf(7.0), erf(f32::NEG_INFINITY), tanh(20.0), tanh(-50.0)], [1.0, -1.0, 1.0, -1.0]);
        assert!(erf(f32::NAN).is_nan() && erf(-0.0).is_sign_negative() && sin(f32::INFINITY).is_nan());
    }
}
