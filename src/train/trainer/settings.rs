//! How a trainer trains, set before it starts.

use super::Trainer;
use crate::optim::schedule::Scheduler;
use crate::optim::{Clip, Schedule};
use crate::train::Precision;
use crate::train::profile::Profile;

impl Trainer {
    /// Times the updates that come; see [`Profile`]. `None` ends that and gives what was measured.
    pub fn set_profile(&mut self, profile: Option<Profile>) -> Option<Profile> {
        std::mem::replace(&mut self.profile, profile)
    }

    /// The same with the learning rate following a schedule.
    pub fn schedule(mut self, schedule: Schedule) -> Trainer {
        self.scheduler = Scheduler::new(self.scheduler.base, schedule);
        self
    }

    /// The same with gradients limited before the update.
    pub fn clip(mut self, clip: Option<Clip>) -> Trainer {
        self.clip = clip;
        self
    }

    /// The same with this seed, from which initialisation, dropout and the order of the data follow.
    pub fn seed(mut self, seed: u64) -> Trainer {
        self.seed = seed;
        self
    }

    /// The same with training steps in this precision.
    pub fn precision(mut self, precision: Precision) -> Trainer {
        self.precision = precision;
        self
    }

    /// The same with epochs in an order of their own, or all in the data's.
    pub fn shuffle(mut self, shuffle: bool) -> Trainer {
        self.shuffle = shuffle;
        self
    }

    /// The same without the short last batch of each epoch.
    pub fn drop_last(mut self, drop_last: bool) -> Trainer {
        self.drop_last = drop_last;
        self
    }

    /// The same with so many threads that prepare training batches in the background. The numbers do not change.
    pub fn workers(mut self, workers: usize) -> Trainer {
        self.workers = workers;
        self
    }
}
