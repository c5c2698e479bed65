//! What a device can do at most, as measured on it: the roofline that workloads are held against. Each figure is the best
//! that any measured loop reached, so a workload can come close to it but its share is no theory.

use super::workloads::{Workload, matmul, workload};
use super::{Effort, Row, measure};
use crate::backend::Device;
use crate::error::Result;
use serde::{Deserialize, Serialize};

/// Elements of the chain of multiply-adds: enough for every lane of a large GPU, little enough for a cache.
const CHAIN: usize = 1 << 18;
/// Multiply-adds per element.
const DEPTH: usize = 30;
/// Elements of the stream: 64 MiB, more than caches hold.
const STREAM: usize = 16 << 20;

/// The limits of a device.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Peaks {
    /// Floating-point operations, in 1e9 per second.
    pub gflops: f64,
    /// Memory traffic, reads and writes together, in 1e9 bytes per second.
    pub gbytes: f64,
    /// One launch of a kernel that does nothing, in milliseconds.
    pub launch_ms: f64,
}

fn loops() -> [Workload; 4] {
    let elems = CHAIN as f64;
    let chain = workload("peak_arithmetic", &[&[CHAIN]], 2.0 * DEPTH as f64 * elems, 2.0 * elems, |x| {
        vec![(0..DEPTH).fold(x[0].clone(), |y, _| y * &x[0] + 0.5)]
    });
    let n = STREAM as f64;
    let stream = workload("peak_bandwidth", &[&[STREAM]], 0.0, 2.0 * n, |x| vec![&x[0] + 1.0]);
    let nothing = workload("peak_launch", &[&[1]], 0.0, 2.0, |x| vec![&x[0] + 1.0]);
    [chain, matmul("peak_product".into(), 1024, 1024, 1024), stream, nothing]
}

impl Peaks {
    /// Measures a device. Results are not compared: nothing but time is wanted here.
    pub fn measure(device: &Device, effort: &Effort) -> Result<Peaks> {
        let effort = Effort { check: false, ..*effort };
        let [chain, product, stream, nothing] = loops().map(|w| measure(&w, device, &effort));
        Ok(Peaks {
            gflops: chain?.gflops.unwrap_or(0.0).max(product?.gflops.unwrap_or(0.0)),
            gbytes: stream?.gbytes.unwrap_or(0.0),
            launch_ms: nothing?.ms,
        })
    }

    /// Raised to what a workload reached, if that is more.
    pub fn raise(&mut self, row: &Row) {
        self.gflops = self.gflops.max(row.gflops.unwrap_or(0.0));
        self.gbytes = self.gbytes.max(row.gbytes.unwrap_or(0.0));
    }

    /// The share of the device's limit that a workload reaches: the least time for its operations, its bytes and its
    /// launches, over the time it takes. Caches may let small ones exceed 1.
    pub fn share(&self, row: &Row) -> f64 {
        let least = |amount: f64, rate: f64| if rate > 0.0 { amount / rate * 1e-6 } else { 0.0 };
        let work = least(row.flops, self.gflops).max(least(row.bytes, self.gbytes));
        work.max(self.launch_ms * row.dispatches as f64) / row.ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_limit_counts() {
        let peaks = Peaks { gflops: 100.0, gbytes: 10.0, launch_ms: 0.1 };
        let row =
            |flops: f64, bytes: f64, dispatches: usize, ms: f64| Row { flops, bytes, dispatches, ms, ..Row::default() };
        // 1e9 operations take 10 ms, 2e8 bytes 20 ms, 300 launches 30 ms.
        assert!((peaks.share(&row(1e9, 1e6, 1, 40.0)) - 0.25).abs() < 1e-12);
        assert!((peaks.share(&row(1e9, 2e8, 1, 40.0)) - 0.5).abs() < 1e-12);
        assert!((peaks.share(&row(1e9, 2e8, 300, 40.0)) - 0.75).abs() < 1e-12);
    }
}
