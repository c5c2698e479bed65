//! The commands of a compiled run as wgpu's own objects: what `benches/host.rs` replays without kiln, to see what kiln adds.
//! For measuring alone; not part of the interface that programs use.

use crate::backend::gpu::record::{GpuRun, Item};

/// One command, in the order of the run.
#[derive(Clone)]
pub enum Command {
    /// A kernel launch.
    Dispatch {
        /// What runs.
        pipeline: wgpu::ComputePipeline,
        /// On what: group 0.
        group: wgpu::BindGroup,
        /// Workgroups along x, y and z.
        grid: [u32; 3],
    },
    /// A copy between buffers.
    Copy {
        /// Source.
        from: wgpu::Buffer,
        /// Destination.
        to: wgpu::Buffer,
        /// How much.
        bytes: u64,
    },
    /// The commands so far, since the last submit, go to the queue.
    Submit,
}

/// The commands of a run, and where they go.
#[derive(Clone)]
pub struct Recording {
    /// The device.
    pub device: wgpu::Device,
    /// Its queue.
    pub queue: wgpu::Queue,
    /// What a run consists of.
    pub commands: Vec<Command>,
}

impl Recording {
    pub(super) fn of(run: &GpuRun) -> Recording {
        let mut commands = Vec::new();
        for (i, item) in run.items.iter().enumerate() {
            commands.push(match item {
                Item::Dispatch(d) => {
                    Command::Dispatch { pipeline: d.pipeline.pipeline.clone(), group: d.group.clone(), grid: d.grid.0 }
                }
                Item::Copy { from, to, bytes } => Command::Copy { from: from.clone(), to: to.clone(), bytes: *bytes },
            });
            if run.splits.contains(&(i + 1)) {
                commands.push(Command::Submit);
            }
        }
        let device = &run.shared.device;
        Recording { device: device.device.clone(), queue: device.queue.clone(), commands }
    }

    /// This run's commands, then the other's on the same device.
    pub(crate) fn then(mut self, other: Recording) -> Recording {
        self.commands.extend(other.commands);
        self
    }
}
