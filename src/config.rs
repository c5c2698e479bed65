//! The only reader of environment variables. Every knob is declared in [`KNOBS`] with its type, default and meaning;
//! the environment is read once, at the first call of [`config`].

use std::path::PathBuf;
use std::sync::OnceLock;

/// A declared environment variable.
#[derive(Debug, Clone, Copy)]
pub struct Knob {
    /// Name of the variable.
    pub name: &'static str,
    /// What values it takes.
    pub values: &'static str,
    /// What holds when it is not set.
    pub default: &'static str,
    /// What it does.
    pub help: &'static str,
}

const fn knob(name: &'static str, values: &'static str, default: &'static str, help: &'static str) -> Knob {
    Knob { name, values, default, help }
}

/// Every environment variable that kiln reads.
pub const KNOBS: &[Knob] = &[
    knob("KILN_DEBUG", "0..4", "0", "say more: 1 devices and plans' notes, 2 timings, 3 plans, 4 shader texts"),
    knob("KILN_ADAPTER", "NAME[#i]", "", "the adapter that `gpu` means: part of its name, #i tells equal ones apart"),
    knob("KILN_CHECKED", "0|1", "0", "shaders with bounds checks, loop bounds and zeroed workgroup memory"),
    knob("KILN_DUMP", "DIR", "", "write every shader text that is compiled to this directory"),
    knob("KILN_POISON", "0|1", "0", "new device buffers hold NaN instead of zeros"),
    knob("KILN_NO_FUSE", "0|1", "0", "one region per node"),
    knob("KILN_NO_MEMPLAN", "0|1", "0", "one slot per value, nothing in place"),
    knob("KILN_NO_KERNELS", "0|1", "0", "composites run as their bodies, without fused kernels"),
    knob("KILN_SERIAL", "0|1", "0", "submit and wait after every dispatch"),
    knob("KILN_TRACE", "FILE", "", "write the timeline of runs to this file"),
    knob("KILN_REQUIRE_ADAPTER", "0|1", "0", "device tests fail instead of being skipped where there is no adapter"),
    knob(
        "KILN_TUNING",
        "0|DIR",
        "the user's cache folder",
        "where `kiln tune` keeps its picks; 0: neither read nor written",
    ),
    knob("KILN_THREADS", "1..", "all cores", "threads of the CPU path"),
];

/// The values of all knobs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// `KILN_DEBUG`
    pub debug: u32,
    /// `KILN_ADAPTER`
    pub adapter: Option<String>,
    /// `KILN_CHECKED`
    pub checked: bool,
    /// `KILN_DUMP`
    pub dump: Option<PathBuf>,
    /// `KILN_POISON`
    pub poison: bool,
    /// `KILN_NO_FUSE`
    pub no_fuse: bool,
    /// `KILN_NO_MEMPLAN`
    pub no_memplan: bool,
    /// `KILN_NO_KERNELS`
    pub no_kernels: bool,
    /// `KILN_SERIAL`
    pub serial: bool,
    /// `KILN_TRACE`
    pub trace: Option<PathBuf>,
    /// `KILN_REQUIRE_ADAPTER`
    pub require_adapter: bool,
    /// `KILN_TUNING`; 0 is kept as it is.
    pub tuning: Option<PathBuf>,
    /// `KILN_THREADS`
    pub threads: Option<usize>,
}

impl Config {
    /// The values that `get` gives for the names of [`KNOBS`]. What cannot be read counts as not set; empty too.
    pub fn from_lookup(get: impl Fn(&str) -> Option<String>) -> Config {
        let text = |name: &str| get(name).filter(|v| !v.is_empty());
        let flag = |name: &str| text(name).is_some_and(|v| v != "0");
        Config {
            debug: text("KILN_DEBUG").and_then(|v| v.parse().ok()).unwrap_or(0),
            adapter: text("KILN_ADAPTER"),
            checked: flag("KILN_CHECKED"),
            dump: text("KILN_DUMP").map(PathBuf::from),
            poison: flag("KILN_POISON"),
            no_fuse: flag("KILN_NO_FUSE"),
            no_memplan: flag("KILN_NO_MEMPLAN"),
            no_kernels: flag("KILN_NO_KERNELS"),
            serial: flag("KILN_SERIAL"),
            trace: text("KILN_TRACE").map(PathBuf::from),
            require_adapter: flag("KILN_REQUIRE_ADAPTER"),
            tuning: text("KILN_TUNING").map(PathBuf::from),
            threads: text("KILN_THREADS").and_then(|v| v.parse().ok()).filter(|&n| n > 0),
        }
    }
}

impl Config {
    /// The folder of tuning files; `None` if tuning is switched off, or the system names no place for such files.
    pub fn tuning_dir(&self) -> Option<PathBuf> {
        match &self.tuning {
            Some(dir) if dir.as_os_str() == "0" => None,
            Some(dir) => Some(dir.clone()),
            None => cache_dir().map(|dir| dir.join("kiln").join("tuning")),
        }
    }
}

/// Where this system keeps what programs can make again.
fn cache_dir() -> Option<PathBuf> {
    let var = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    if cfg!(windows) {
        return var("LOCALAPPDATA");
    }
    let home = |part: &str| var("HOME").map(|home| home.join(part));
    if cfg!(target_os = "macos") { home("Library/Caches") } else { var("XDG_CACHE_HOME").or_else(|| home(".cache")) }
}

/// Gives Mesa's window-system code the directory that it looks for, where there is none: without it every start on a
/// headless machine prints "error: XDG_RUNTIME_DIR is invalid", which is none of kiln's business.
///
/// # Safety
/// Changes the environment: call it before any other thread exists.
pub unsafe fn quiet_drivers() {
    const NAME: &str = "XDG_RUNTIME_DIR";
    if cfg!(target_os = "linux") && std::env::var_os(NAME).is_none() {
        // SAFETY: the caller vouches that no other thread exists.
        unsafe { std::env::set_var(NAME, std::env::temp_dir()) };
    }
}

/// The configuration of this process, from its environment.
pub fn config() -> &'static Config {
    static CONFIG: OnceLock<Config> = OnceLock::new();
    CONFIG.get_or_init(|| Config::from_lookup(|name| std::env::var(name).ok()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn every_name_that_is_read_is_declared_and_the_other_way_round() {
        let seen = RefCell::new(Vec::new());
        let config = Config::from_lookup(|name| {
            seen.borrow_mut().push(name.to_string());
            Some("1".into())
        });
        assert!(config.checked && config.debug == 1 && config.threads == Some(1));
        let mut declared: Vec<_> = KNOBS.iter().map(|k| k.name.to_string()).collect();
        declared.sort();
        let mut seen = seen.into_inner();
        seen.sort();
        assert_eq!(seen, declared);
    }
}
