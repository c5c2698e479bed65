// Elementary functions where the built-in ones are too inaccurate, undefined on special values, or missing. Polynomials
// are Chebyshev interpolants fitted for these ranges; each function's error is a few units in the last place.

fn from_bits(b: u32) -> f32 {
    return bitcast<f32>(b);
}
fn inf() -> f32 {
    return from_bits(0x7f800000u);
}
fn nan() -> f32 {
    return from_bits(0x7fc00000u);
}

// 2^n for n in -252 .. 254, as two factors so that it can overflow and underflow.
fn scale_by(x: f32, n: i32) -> f32 {
    let h = n / 2;
    return x * from_bits(u32(h + 127) << 23u) * from_bits(u32(n - h + 127) << 23u);
}

// e^r for |r| <= ln(2)/2 (and a little more).
fn exp_small(r: f32) -> f32 {
    return 1.0 + (r + r * r * (0.5 + r * (0.16666577 + r * (0.0416665547 + r * (0.00836317307 + r * 0.00139261761)))));
}

fn exp_(x: f32) -> f32 {
    let c = clamp(x, -110.0, 100.0);
    let n = round(c * 1.44269504);
    let r = (c - n * 0.693115234375) - n * 3.19461849453e-05;
    return select(scale_by(exp_small(r), i32(n)), x, is_nan(x));
}

fn expm1_(x: f32) -> f32 {
    let p = 0.5 + x * (0.166666667 + x * (0.0416663086 + x * (0.00833329357 + x * (0.00139485319 + x * 0.000199075157))));
    return select(exp_(x) - 1.0, x + x * x * p, abs(x) < 0.4);
}

// log(1 + f) for 1 + f between sqrt(1/2) and sqrt(2)
fn log_small(f: f32) -> f32 {
    let s = f / (2.0 + f);
    let z = s * s;
    let h = 0.5 * f * f;
    let p = z * (0.666666666 + z * (0.400001218 + z * (0.285508208 + z * 0.233304672)));
    return f - (h - s * (h + p));
}

fn log_(x: f32) -> f32 {
    let tiny = bitcast<u32>(x) < 0x00800000u;
    let b = bitcast<u32>(select(x, x * 8388608.0, tiny));
    let k = i32((b + (0x3f800000u - 0x3f3504f3u)) >> 23u) - 127;
    let m = from_bits(b - (u32(k + 127) << 23u) + 0x3f800000u);
    let e = f32(k) - select(0.0, 23.0, tiny);
    var y = e * 0.693115234375 + (e * 3.19461849453e-05 + log_small(m - 1.0));
    if (b & 0x7fffffffu) == 0u {
        y = -inf();
    } else if (b & 0x80000000u) != 0u {
        y = nan();
    } else if b == 0x7f800000u {
        y = x;
    }
    return select(y, x, is_nan(x));
}

fn log1p_(x: f32) -> f32 {
    return select(log_(1.0 + x), log_small(x), x > -0.29 && x < 0.41);
}

fn tanh_(x: f32) -> f32 {
    let z = x * x;
    let p = -0.333333331 + z * (0.133333001 + z * (-0.0539584616 + z * (0.0217625029 + z * (-0.00832318703 + z * 0.00226950166))));
    let a = min(abs(x), 15.0);
    let big = 1.0 - 2.0 / (exp_(2.0 * a) + 1.0);
    let y = select(select(big, -big, x < 0.0), x + x * z * p, abs(x) < 0.625);
    return select(y, x, is_nan(x));
}

// x P(x^2) / Q(x^2) up to where erf rounds to 1: one rational function instead of a polynomial and an exponential.
fn erf_(x: f32) -> f32 {
    let a = clamp(x, -3.92, 3.92);
    let z = a * a;
    let p = 1.12837915 + z * (0.190401611 + z * (0.0527480529 + z * (0.00376539982 + z * (0.000284876469 + z * 2.05010755e-06))));
    let q = 1.0 + z * (0.502071776 + z * (0.114107079 + z * (0.0149687844 + z * (0.0011624802 + z * 3.80915956e-05))));
    // Exactly 1 beyond: x (1 + erf(x)) must vanish for x far below 0, and does not if the sum leaves half an ulp.
    let y = select(clamp(a * p / q, -1.0, 1.0), sign(x), abs(x) >= 3.92);
    return select(y, x, is_nan(x));
}

// The upper word of a * b.
fn mul_high(a: u32, b: u32) -> u32 {
    let low = (a >> 16u) * (b & 0xffffu) + (((a & 0xffffu) * (b & 0xffffu)) >> 16u);
    let mid = (a & 0xffffu) * (b >> 16u) + (low & 0xffffu);
    return (a >> 16u) * (b >> 16u) + (low >> 16u) + (mid >> 16u);
}

// Quadrant (0 to 4) and remainder in [-pi/4, pi/4] of |x| by pi/2, for finite |x| > 1 of any size: the mantissa times the
// words of 2/pi that its exponent leaves between 2^2 and 2^-62 (Payne and Hanek, 1983).
fn far_remainder(x: f32) -> vec2<f32> {
    var words = array<u32, 7>(0x28be60dbu, 0x9391054au, 0x7f09d5f4u, 0x7d4d3770u, 0x36d8a566u, 0x4f10e410u, 0x7f9458eau);
    let bits = bitcast<u32>(x);
    let m = (bits << 8u) | 0x80000000u;
    let e = ((bits >> 23u) & 0xffu) - 126u;
    let i = min(e / 32u, 4u);
    let s = e % 32u;
    var w = vec3<u32>(0u, words[i], words[i + 1u]);
    if (i > 0u) {
        w.x = words[i - 1u];
    }
    if (s > 0u) {
        w = (w << vec3(s)) | (vec3(w.y, w.z, words[i + 2u]) >> vec3(32u - s));
    }
    let carry = mul_high(m, w.z);
    var low = m * w.y + carry;
    var high = mul_high(m, w.y) + select(0u, 1u, low < carry) + m * w.x;
    var quadrant = high >> 30u;
    high = high & 0x3fffffffu;
    let above = (high & 0x20000000u) != 0u;
    if (above) {
        // The next quadrant is nearer: the complement, so that no digit of a small remainder is lost.
        quadrant += 1u;
        low = ~low + 1u;
        high = 0x40000000u - high - select(0u, 1u, low != 0u);
    }
    let r = (f32(high) + f32(low) * 2.3283064e-10) * 1.4629181e-09;
    return vec2<f32>(f32(quadrant), select(r, -r, above));
}

// sin(x + quadrant * pi/2). Exact reduction up to |x| = 1e6 by a pi/2 in three parts and a multiple in two.
fn sin_shifted(x: f32, quadrant: i32) -> f32 {
    var n = round(clamp(x, -1.0e6, 1.0e6) * 0.636619772);
    let high = trunc(n / 4096.0) * 4096.0;
    let low = n - high;
    var r = (x - high * 1.5703125) - low * 1.5703125;
    r = (r - high * 0.00048375129699707) - low * 0.00048375129699707;
    r = r - n * 7.54979012640433e-08;
    if (abs(x) > 1.0e6) {
        let far = far_remainder(x);
        let flip = select(1.0, -1.0, x < 0.0);
        n = flip * far.x;
        r = flip * far.y;
    }
    let z = r * r;
    let s = r + r * z * (-0.166666647 + z * (0.00833274827 - z * 0.000195878909));
    let c = 1.0 - 0.5 * z + z * z * (0.0416666647 + z * (-0.0013888303 + z * 2.45479421e-05));
    let q = (i32(n) + quadrant) & 3;
    let y = select(s, c, (q & 1) == 1);
    return select(select(y, -y, q >= 2), nan(), !is_finite(x));
}

fn sin_(x: f32) -> f32 {
    return sin_shifted(x, 0);
}

fn cos_(x: f32) -> f32 {
    return sin_shifted(x, 1);
}

// |x|^y for finite positive |x|. y is split so that its product with the exponent of x is exact.
fn pow_positive(x: f32, y: f32) -> f32 {
    let tiny = bitcast<u32>(x) < 0x00800000u;
    let b = bitcast<u32>(select(x, x * 8388608.0, tiny));
    let k = i32((b + (0x3f800000u - 0x3f3504f3u)) >> 23u) - 127;
    let m = from_bits(b - (u32(k + 127) << 23u) + 0x3f800000u);
    let e = f32(k) - select(0.0, 23.0, tiny);
    let l = log_small(m - 1.0);
    let yh = from_bits(bitcast<u32>(y) & 0xfffff000u);
    let yl = y - yh;
    let whole = yh * e;
    let estimate = whole + (yl * e + y * l * 1.44269504);
    if estimate > 150.0 {
        return inf();
    }
    if estimate < -160.0 {
        return 0.0;
    }
    let n = round(estimate);
    let r = ((whole - n) + yl * e) * 0.693147181 + y * l;
    return scale_by(exp_small(r), i32(n));
}

fn pow_(x: f32, y: f32) -> f32 {
    if y == 0.0 || (x == 1.0 && !is_nan(x)) {
        return 1.0;
    }
    if is_nan(x) || is_nan(y) {
        return nan();
    }
    let a = abs(x);
    let integer = !is_finite(y) || floor(y) == y;
    let odd = is_finite(y) && integer && abs(y) < 16777216.0 && (i32(y) & 1) != 0;
    var r: f32;
    if a == 0.0 || !is_finite(a) {
        r = select(0.0, inf(), (a == 0.0) == (y < 0.0));
    } else if !is_finite(y) {
        r = select(select(0.0, inf(), (a > 1.0) == (y > 0.0)), 1.0, a == 1.0);
    } else {
        if x < 0.0 && !integer {
            return nan();
        }
        r = pow_positive(a, y);
    }
    let negative = (bitcast<u32>(x) & 0x80000000u) != 0u;
    return select(r, -r, negative && odd);
}

// Remainder with the sign of b, for |a / b| < 2^24 (beyond, an f32 quotient has no units). The product is taken in exact
// parts, so that the difference is exact.
fn rem_(a: f32, b: f32) -> f32 {
    if !is_finite(a) || is_nan(b) || b == 0.0 {
        return nan();
    }
    var r = a;
    if is_finite(b) {
        let q = trunc(a / b);
        let qh = from_bits(bitcast<u32>(q) & 0xfffff000u);
        let bh = from_bits(bitcast<u32>(b) & 0xfffff000u);
        let ql = q - qh;
        let bl = b - bh;
        r = (((a - qh * bh) - qh * bl) - ql * bh) - ql * bl;
        // The quotient may have been rounded to the next integer.
        if r != 0.0 && (r < 0.0) != (a < 0.0) {
            r = r + select(-abs(b), abs(b), r < 0.0);
        }
        if abs(r) >= abs(b) {
            r = r - select(-abs(b), abs(b), r > 0.0);
        }
    }
    return select(r, r + b, r != 0.0 && (r < 0.0) != (b < 0.0));
}

// x times a zero whose sign bit is given: a zero, or NaN of infinity and NaN.
fn times_zero(x: f32, sign_bit: u32) -> f32 {
    return from_bits(select(0x7fc00000u, (bitcast<u32>(x) & 0x80000000u) ^ sign_bit, is_finite(x)));
}

fn sign_(x: f32) -> f32 {
    return select(select(0.0, -1.0, x < 0.0), 1.0, x > 0.0);
}

fn div_i32(a: i32, b: i32) -> i32 {
    let safe = select(b, 1, b == 0 || (b == -1 && a == i32(0x80000000u)));
    return select(a / safe, 0, b == 0);
}

fn div_u32(a: u32, b: u32) -> u32 {
    return select(a / max(b, 1u), 0u, b == 0u);
}

fn rem_i32(a: i32, b: i32) -> i32 {
    let safe = select(b, 1, b == 0 || b == -1);
    let r = a - (a / safe) * safe;
    return select(select(r, r + b, r != 0 && (r < 0) != (b < 0)), 0, b == 0);
}

fn rem_u32(a: u32, b: u32) -> u32 {
    return select(a - (a / max(b, 1u)) * b, 0u, b == 0u);
}

// Towards zero, saturating, NaN to 0.
fn to_i32(x: f32) -> i32 {
    if is_nan(x) {
        return 0;
    }
    if x >= 2147483648.0 {
        return 2147483647;
    }
    if x <= -2147483648.0 {
        return i32(0x80000000u);
    }
    return i32(x);
}

fn to_u32(x: f32) -> u32 {
    if is_nan(x) || x <= 0.0 {
        return 0u;
    }
    if x >= 4294967296.0 {
        return 0xffffffffu;
    }
    return u32(x);
}
