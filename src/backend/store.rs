//! `Store`: what lives longer than one run: parameters, optimizer state and counters by name, and the transient memory
//! that all programs over it share. Clones share it.

use crate::backend::{Backend, BufferId, Device};
use crate::error::{Error, Result};
use crate::ir::Type;
use crate::plan::Place;
use crate::tensor::HostTensor;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

/// A buffer that goes back to its backend when nobody refers to it any more.
pub(super) struct Buffer {
    backend: Arc<dyn Backend>,
    pub id: BufferId,
    pub bytes: usize,
}

impl Buffer {
    pub fn new(backend: &Arc<dyn Backend>, bytes: usize) -> Result<Rc<Buffer>> {
        Ok(Rc::new(Buffer { backend: backend.clone(), id: backend.alloc(bytes)?, bytes }))
    }
    /// True if it is a buffer of this backend.
    pub fn is_of(&self, backend: &Arc<dyn Backend>) -> bool {
        Arc::ptr_eq(&self.backend, backend)
    }
    pub fn write(&self, bytes: &[u8]) -> Result<()> {
        self.backend.write(self.id, bytes)
    }
    pub fn read(&self, bytes: usize) -> Result<Box<dyn crate::backend::Pending>> {
        self.backend.read(self.id, bytes)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.backend.free(self.id);
    }
}

struct Inner {
    device: Device,
    states: BTreeMap<String, (Type, Rc<Buffer>)>,
    pool: Vec<(Place, Rc<Buffer>)>,
}

/// Persistent state by name, on one device.
#[derive(Clone)]
pub struct Store {
    inner: Rc<RefCell<Inner>>,
}

impl Store {
    /// An empty store.
    pub fn new(device: &Device) -> Store {
        let inner = Inner { device: device.clone(), states: BTreeMap::new(), pool: Vec::new() };
        Store { inner: Rc::new(RefCell::new(inner)) }
    }

    /// Where it lives.
    pub fn device(&self) -> Device {
        self.inner.borrow().device.clone()
    }

    /// Writes the state of this name, which is made if it does not exist. A state keeps its type: to change that,
    /// remove it first.
    pub fn insert(&self, name: impl Into<String>, value: &HostTensor) -> Result<()> {
        let name = name.into();
        let ty = Type { dtype: value.dtype(), shape: value.shape.clone() };
        let mut inner = self.inner.borrow_mut();
        if let Some((old, buffer)) = inner.states.get(&name) {
            if *old != ty {
                let detail = format!("is {old}, the new value {ty}; remove it first to change its type");
                return Err(Error::input(format!("state {name:?}"), detail));
            }
            return buffer.write(value.as_bytes());
        }
        let buffer = Buffer::new(inner.device.backend(Place::Device), ty.bytes())?;
        buffer.write(value.as_bytes())?;
        inner.states.insert(name, (ty, buffer));
        Ok(())
    }

    /// The state of this name, as it is after all runs so far.
    pub fn get(&self, name: &str) -> Result<HostTensor> {
        let (ty, buffer) = self.state(name)?;
        let bytes = buffer.read(ty.bytes())?.wait()?;
        HostTensor::from_bytes(ty.dtype, ty.shape, &bytes)
    }

    /// True if there is a state of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.inner.borrow().states.contains_key(name)
    }

    /// The type of a state, if there is one of this name.
    pub fn ty(&self, name: &str) -> Option<Type> {
        self.inner.borrow().states.get(name).map(|(ty, _)| ty.clone())
    }

    /// All names, sorted.
    pub fn names(&self) -> Vec<String> {
        self.inner.borrow().states.keys().cloned().collect()
    }

    /// Forgets a state; true if there was one. Programs that were compiled with it keep its memory.
    pub fn remove(&self, name: &str) -> bool {
        self.inner.borrow_mut().states.remove(name).is_some()
    }

    /// Bytes of state and of shared transient memory.
    pub fn bytes(&self) -> (usize, usize) {
        let inner = self.inner.borrow();
        (inner.states.values().map(|(t, _)| t.bytes()).sum(), inner.pool.iter().map(|(_, b)| b.bytes).sum())
    }

    pub(super) fn state(&self, name: &str) -> Result<(Type, Rc<Buffer>)> {
        let missing = || Error::input(format!("state {name:?}"), "is not in the store; insert it first");
        self.inner.borrow().states.get(name).cloned().ok_or_else(missing)
    }

    /// Buffers for the transient slots of one program, given as (place, bytes): each from the pool if there is one that
    /// is large enough, else a new one, which joins the pool.
    pub(super) fn transient(&self, slots: &[(Place, usize)]) -> Result<Vec<Rc<Buffer>>> {
        let mut inner = self.inner.borrow_mut();
        let mut used = vec![false; inner.pool.len()];
        let mut out: Vec<Option<Rc<Buffer>>> = vec![None; slots.len()];
        // Largest first, so that the large buffers of the pool are not spent on small slots.
        let mut order: Vec<usize> = (0..slots.len()).collect();
        order.sort_by_key(|&i| std::cmp::Reverse(slots[i].1));
        for i in order {
            let (place, bytes) = slots[i];
            let fits = |(k, (p, b)): &(usize, &(Place, Rc<Buffer>))| !used[*k] && *p == place && b.bytes >= bytes;
            let found = inner.pool.iter().enumerate().filter(fits).min_by_key(|(k, (_, b))| (b.bytes, *k)).map(|x| x.0);
            let k = match found {
                Some(k) => k,
                None => {
                    let buffer = Buffer::new(inner.device.backend(place), bytes)?;
                    inner.pool.push((place, buffer));
                    used.push(false);
                    inner.pool.len() - 1
                }
            };
            used[k] = true;
            out[i] = Some(inner.pool[k].1.clone());
        }
        Ok(out.into_iter().flatten().collect())
    }
}
