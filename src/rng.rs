//! Counter-based random numbers: Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as
//! 1, 2, 3", SC 2011). This file is the definition of `Prim::Random`, bit for bit on every backend, and what the host
//! draws from (initialisation, shuffles, test data). No state is hidden: the same key and counter give the same bits.

/// Multipliers of the two products of a round.
const MUL: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
/// What is added to the key between rounds: golden ratio and sqrt(3) - 1, in units of 2^-32.
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// One block: four random words for this counter under this key.
pub fn philox4x32_10(mut c: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for round in 0..10 {
        if round > 0 {
            key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
        }
        let p0 = u64::from(MUL[0]) * u64::from(c[0]);
        let p1 = u64::from(MUL[1]) * u64::from(c[2]);
        c = [(p1 >> 32) as u32 ^ c[1] ^ key[0], p1 as u32, (p0 >> 32) as u32 ^ c[3] ^ key[1], p0 as u32];
    }
    c
}

/// Word `index` of `Prim::Random { stream, .. }` for `counter` = (seed_lo, seed_hi, step, microbatch): the key is
/// (seed_lo, seed_hi), the block (index / 4, step, microbatch, stream), the word of the block index % 4.
pub fn word(counter: [u32; 4], stream: u32, index: u32) -> u32 {
    let block = philox4x32_10([index / 4, counter[2], counter[3], stream], [counter[0], counter[1]]);
    block[(index % 4) as usize]
}

/// All `n` words of `Prim::Random { stream, .. }`, in row-major order.
pub fn words(counter: [u32; 4], stream: u32, n: usize) -> Vec<u32> {
    let mut out = Vec::with_capacity(n + 3);
    for block in 0..n.div_ceil(4) as u32 {
        let c = [block, counter[2], counter[3], stream];
        out.extend_from_slice(&philox4x32_10(c, [counter[0], counter[1]]));
    }
    out.truncate(n);
    out
}

/// A float in [0, 1) from the top 24 bits of a word: every value is a multiple of 2^-24, exact in f32.
pub fn uniform(bits: u32) -> f32 {
    (bits >> 8) as f32 * (1.0 / 16_777_216.0)
}

/// The stream of a module path: its FNV-1a hash (32 bits).
pub fn stream_id(path: &str) -> u32 {
    path.bytes().fold(0x811C_9DC5, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193))
}

/// A sequence of random numbers on the host: successive words of one stream at step 0, microbatch 0.
#[derive(Debug, Clone)]
pub struct Rng {
    key: [u32; 2],
    stream: u32,
    block: u64,
    left: Vec<u32>,
}

impl Rng {
    /// The sequence of this seed and stream.
    pub fn new(seed: u64, stream: u32) -> Rng {
        Rng { key: [seed as u32, (seed >> 32) as u32], stream, block: 0, left: Vec::new() }
    }

    /// The sequence of this seed for what `path` names (a parameter, a data set, a test case).
    pub fn named(seed: u64, path: &str) -> Rng {
        Rng::new(seed, stream_id(path))
    }

    /// The next 32 bits.
    pub fn next_u32(&mut self) -> u32 {
        if let Some(x) = self.left.pop() {
            return x;
        }
        let [a, b, c, d] = philox4x32_10([self.block as u32, (self.block >> 32) as u32, 0, self.stream], self.key);
        self.block += 1;
        self.left = vec![d, c, b];
        a
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        let low = u64::from(self.next_u32());
        low | u64::from(self.next_u32()) << 32
    }

    /// Uniform in [0, 1), from 24 bits.
    pub fn uniform(&mut self) -> f32 {
        uniform(self.next_u32())
    }

    /// Uniform in [0, 1), from 53 bits.
    pub fn uniform_f64(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / 9_007_199_254_740_992.0)
    }

    /// Uniform in [lo, hi), computed in f64.
    pub fn range(&mut self, lo: f64, hi: f64) -> f64 {
        lo + (hi - lo) * self.uniform_f64()
    }

    /// Standard normal (Box-Muller; 1 - u keeps the logarithm finite).
    pub fn normal(&mut self) -> f64 {
        let r = (-2.0 * (1.0 - self.uniform_f64()).ln()).sqrt();
        r * (std::f64::consts::TAU * self.uniform_f64()).cos()
    }

    /// Uniform in 0..n without bias (Lemire's multiplication with rejection); 0 for n = 0.
    pub fn below(&mut self, n: usize) -> usize {
        let n = n as u64;
        if n == 0 {
            return 0;
        }
        loop {
            let product = u128::from(self.next_u64()) * u128::from(n);
            // The low half below 2^64 mod n marks the values that would appear once too often.
            if product as u64 >= n.wrapping_neg() % n {
                return (product >> 64) as usize;
            }
        }
    }

    /// Shuffles in place (Fisher-Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }

    /// A random order of 0..n.
    pub fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        self.shuffle(&mut order);
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_known_answers() {
        // The vectors published with the paper's library (Random123, kat_vectors).
        assert_eq!(philox4x32_10([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox4x32_10([u32::MAX; 4], [u32::MAX; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        let pi = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
        let expected = [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1];
        assert_eq!(philox4x32_10(pi, [0xa409_3822, 0x299f_31d0]), expected);
    }

    #[test]
    fn fnv_known_answers() {
        assert_eq!(stream_id(""), 0x811c_9dc5);
        assert_eq!(stream_id("a"), 0xe40c_292c);
        assert_eq!(stream_id("foobar"), 0xbf9c_f968);
    }

    #[test]
    fn words_agree_with_word_and_counters_matter() {
        let counter = [1, 2, 3, 4];
        let all = words(counter, 5, 10);
        assert_eq!(all, (0..10).map(|i| word(counter, 5, i)).collect::<Vec<_>>());
        for changed in [[9, 2, 3, 4], [1, 9, 3, 4], [1, 2, 9, 4], [1, 2, 3, 9]] {
            assert_ne!(words(changed, 5, 10), all);
        }
        assert_ne!(words(counter, 6, 10), all);
        assert_eq!(all[..4], philox4x32_10([0, 3, 4, 5], [1, 2]));
    }

    #[test]
    fn distributions() {
        assert_eq!(uniform(u32::MAX), 1.0 - 1.0 / 16_777_216.0);
        assert_eq!(uniform(255), 0.0);
        let mut rng = Rng::named(7, "test");
        let n = 20_000;
        let draws: Vec<f64> = (0..n).map(|_| rng.normal()).collect();
        let mean = draws.iter().sum::<f64>() / n as f64;
        let var = draws.iter().map(|x| x * x).sum::<f64>() / n as f64;
        // Five standard errors: 5/sqrt(n) for the mean, 5*sqrt(2/n) for the second moment.
        assert!(mean.abs() < 5.0 / (n as f64).sqrt(), "mean {mean}");
        assert!((var - 1.0).abs() < 5.0 * (2.0 / n as f64).sqrt(), "variance {var}");
        let mut order = rng.permutation(100);
        assert_ne!(order, (0..100).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..100).collect::<Vec<_>>());
        assert!((0..1000).all(|_| rng.below(3) < 3));
    }
}
