//! `cargo bench --bench radv -- [--variants] [FILTER]`: the hot kernels of `kiln bench`, as a discrete AMD card would get them, or the variants that it
//! would not get by itself, compiled for three chips. Prints a Markdown table; needs Mesa's RADV driver, and no GPU.

mod tool;

use kiln::backend::gpu::AdapterClass;
use std::collections::BTreeSet;

fn main() {
    let filter = std::env::args().skip(1).find(|a| !a.starts_with('-')).unwrap_or_default();
    let others = std::env::args().any(|a| a == "--variants");
    let Some((driver, library)) = tool::driver() else {
        eprintln!("RADV is not installed (Debian: mesa-vulkan-drivers)");
        std::process::exit(2);
    };
    println!("{}", tool::HEADING);
    for (title, names) in tool::CHIPS {
        let known = tool::known(&library, names).ok_or_else(|| "this driver does not know it".to_string());
        let chip = match known.and_then(|name| tool::Chip::open(driver, name)) {
            Ok(chip) => chip,
            Err(e) => {
                println!("| {title} | {e} | | | | | | | | | |");
                continue;
            }
        };
        let device = tool::Paper::new(AdapterClass::Discrete);
        let mut seen = BTreeSet::new();
        let calls = if others { tool::variants(&device) } else { tool::all(&device) };
        for (workload, call) in calls.into_iter().filter(|(name, _)| name.contains(&filter)) {
            if !seen.insert((call.source.clone(), format!("{:?}", call.overrides))) {
                continue;
            }
            match chip.compile(&call) {
                Ok(figures) => println!("{}", tool::row(title, &workload, &call, &figures)),
                Err(e) => {
                    println!("| {title} | {workload} | {} {}: {e} | | | | | | | | |", call.label, call.variant)
                }
            }
        }
    }
}
