//! A compiled run without kiln: its commands, recorded into encoders and submitted by wgpu alone. Used by this bench and by
//! `tests/device.rs`.

use kiln::backend::gpu::recording::{Command, Recording};

/// Records and submits one run.
pub fn replay(r: &Recording) {
    let mut at = 0;
    while at < r.commands.len() {
        let mut encoder = r.device.create_command_encoder(&Default::default());
        at = record(r, at, &mut encoder);
        r.queue.submit([encoder.finish()]);
    }
}

/// Records the commands from `at` to the next submit; returns where the next ones begin.
pub fn record(r: &Recording, mut at: usize, encoder: &mut wgpu::CommandEncoder) -> usize {
    loop {
        match &r.commands[at] {
            Command::Submit => return at + 1,
            Command::Copy { from, to, bytes } => {
                encoder.copy_buffer_to_buffer(from, 0, to, 0, Some(*bytes));
                at += 1;
            }
            Command::Dispatch { .. } => {
                let mut pass = encoder.begin_compute_pass(&Default::default());
                while let Command::Dispatch { pipeline, group, grid: [x, y, z] } = &r.commands[at] {
                    pass.set_pipeline(pipeline);
                    pass.set_bind_group(0, group, &[]);
                    pass.dispatch_workgroups(*x, *y, *z);
                    at += 1;
                }
            }
        }
    }
}
