//! f16 on every device: what conversion makes of each number, products of f16 operands, and training steps in mixed precision.

use half::f16;
use kiln::ir::{OutputKind, Type};
use kiln::{Builder, DType, Device, HostTensor, Program, Store};

/// Runs `f` on the devices that there are.
fn everywhere(f: impl Fn(&Device)) {
    for name in ["reference", "cpu", "software"] {
        match Device::open(name) {
            Ok(device) => f(&device),
            Err(e) if !kiln::config::config().require_adapter => eprintln!("not run: {e}"),
            Err(e) => panic!("{e}"),
        }
    }
}

/// The f32 values around every f16, its halfway points to both neighbours, and the ends of both ranges.
fn numbers() -> Vec<f32> {
    let mut all = vec![65_519.0, 65_519.996, 65_520.0, 65_536.0, 1e5, 1e30, f32::MAX, f32::INFINITY, f32::NAN];
    all.extend([f32::MIN_POSITIVE, 1e-40, 1e-45, 2f32.powi(-25), 2f32.powi(-25) * 1.000_001, 2f32.powi(-26)]);
    for bits in 0..0x7bff {
        let (low, high) = (f16::from_bits(bits).to_f32(), f16::from_bits(bits + 1).to_f32());
        let middle = (low + high) / 2.0;
        // Every third, and all small ones: enough to meet each exponent and both parities.
        if bits < 1100 || bits % 3 == 0 {
            all.extend([low, middle.next_down(), middle, middle.next_up()]);
        }
    }
    let negative: Vec<f32> = all.iter().map(|x| -x).collect();
    all.extend(negative);
    all
}

#[test]
fn conversion_rounds_to_nearest_even() {
    let x = numbers();
    let given = HostTensor::f32([x.len()], x.clone()).unwrap();
    everywhere(|device| {
        let spec = [("x", Type::new(DType::F32, [x.len()]))];
        let f = |t: &[kiln::Tensor]| vec![t[0].cast(DType::F16)];
        let mut program = Program::trace(&Store::new(device), &spec, f).unwrap();
        assert_eq!(program.stats().fallbacks, 0, "{:?}", program.plan().notes);
        let out = program.run(&[("x", &given)]).unwrap().remove(0);
        let kiln::tensor::Data::F16(got) = &out.data else { panic!("{}", out.dtype()) };
        for (x, got) in x.iter().zip(got) {
            let want = f16::from_f32(*x);
            let same = if x.is_nan() { got.is_nan() } else { got.to_bits() == want.to_bits() };
            assert!(same, "{x:e} ({:#x}) gives {got:?} and not {want:?} on {}", x.to_bits(), device.info().name);
        }
    });
}

#[test]
fn every_f16_widens_exactly() {
    let all: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
    // An odd number, so that the last word is half full.
    for n in [all.len(), all.len() - 1] {
        let given = HostTensor::new([n], kiln::tensor::Data::F16(all[..n].to_vec())).unwrap();
        everywhere(|device| {
            let spec = [("x", Type::new(DType::F16, [n]))];
            let f = |t: &[kiln::Tensor]| vec![t[0].cast(DType::F32)];
            let mut program = Program::trace(&Store::new(device), &spec, f).unwrap();
            assert_eq!(program.stats().fallbacks, 0, "{:?}", program.plan().notes);
            let out = program.run(&[("x", &given)]).unwrap().remove(0);
            for (x, got) in all.iter().zip(out.as_f32().unwrap()) {
                let same = if x.is_nan() { got.is_nan() } else { got.to_bits() == x.to_f32().to_bits() };
                assert!(same, "{x:?} gives {got:e} on {}", device.info().name);
            }
        });
    }
}

/// Stores of single halfs leave their neighbours alone: results of odd lengths, written by one invocation each, through views
/// that no vector load fits.
#[test]
fn neighbours_in_a_word_are_written_apart() {
    let (rows, columns) = (37, 53);
    let x: Vec<f32> = (0..rows * columns).map(|i| (i as f32 * 0.37).sin()).collect();
    let given = HostTensor::f32([rows, columns], x.clone()).unwrap();
    everywhere(|device| {
        let spec = [("x", Type::new(DType::F32, [rows, columns]))];
        let f = |t: &[kiln::Tensor]| vec![t[0].t().cast(DType::F16)];
        let mut program = Program::trace(&Store::new(device), &spec, f).unwrap();
        assert_eq!(program.stats().fallbacks, 0, "{:?}", program.plan().notes);
        for _ in 0..3 {
            let out = program.run(&[("x", &given)]).unwrap().remove(0);
            let want: Vec<f64> =
                (0..rows * columns).map(|i| f16::from_f32(x[i % rows * columns + i / rows]).to_f64()).collect();
            assert_eq!(out.to_f64(), want, "{}", device.info().name);
        }
    });
}

/// A rounding that no memory sees is done all the same: in a loop, in the tail of a product, before a sum.
#[test]
fn a_rounding_within_a_region_is_done() {
    let n = 40;
    let x: Vec<f32> = (0..n * n).map(|i| (i as f32 * 0.37).sin() * 3.0).collect();
    let given = HostTensor::f32([n, n], x.clone()).unwrap();
    let round = |t: &kiln::Tensor| t.cast(DType::F16).cast(DType::F32);
    everywhere(|device| {
        let spec = [("x", Type::new(DType::F32, [n, n]))];
        let one = (0..n * n).map(|i| f32::from(u8::from(i / n == i % n))).collect();
        let one = HostTensor::f32([n, n], one).unwrap();
        let f = |t: &[kiln::Tensor]| {
            let spec = t[0].builder().feed("one", DType::F32, [n, n]);
            vec![round(&t[0]) * 3.0, round(&t[0].matmul(&spec)) * 3.0, (&t[0] - round(&t[0])).amax(&[1], false)]
        };
        let mut program = Program::trace(&Store::new(device), &spec, f).unwrap();
        assert_eq!(program.stats().fallbacks, 0, "{:?}", program.plan().notes);
        let out = program.run(&[("x", &given), ("one", &one)]).unwrap();
        let narrow = |x: f32| f16::from_f32(x).to_f32();
        let want: Vec<f64> = x.iter().map(|&x| f64::from(narrow(x) * 3.0)).collect();
        assert_eq!(out[0].to_f64(), want, "{}", device.info().name);
        assert_eq!(out[1].to_f64(), want, "{}", device.info().name);
        let most = |row: &[f32]| row.iter().map(|&x| x - narrow(x)).fold(f32::NEG_INFINITY, f32::max);
        let want: Vec<f64> = x.chunks(n).map(|row| f64::from(most(row))).collect();
        assert_eq!(out[2].to_f64(), want, "{}", device.info().name);
    });
}

/// A state of f16 keeps its bits over runs, and what is beyond its range becomes infinite there.
#[test]
fn states_may_be_f16() {
    everywhere(|device| {
        let store = Store::new(device);
        let start = [1.0, -0.5, 40_000.0].map(f16::from_f32).to_vec();
        store.insert("h", &HostTensor::new([3], kiln::tensor::Data::F16(start)).unwrap()).unwrap();
        let b = Builder::new();
        let h = b.state("h", DType::F16, [3]);
        b.output("h", OutputKind::State, &(h.cast(DType::F32) * 2.0).cast(DType::F16));
        let mut program = Program::compile(&store, b.build().unwrap()).unwrap();
        assert_eq!(program.stats().fallbacks, 0, "{:?}", program.plan().notes);
        program.run(&[]).unwrap();
        program.run(&[]).unwrap();
        assert_eq!(store.get("h").unwrap().to_f64(), [4.0, -2.0, f64::INFINITY], "{}", device.info().name);
    });
}

/// f16 is for storage: arithmetic on it is refused where it is written, with what to do.
#[test]
fn arithmetic_needs_f32() {
    let b = Builder::new();
    let x = b.feed("x", DType::F16, [4]);
    let y = &x + &x;
    b.output("y", OutputKind::Fetch, &y);
    let e = b.build().unwrap_err().to_string();
    assert!(e.contains("f16") && e.contains("cast it to f32"), "{e}");
}
