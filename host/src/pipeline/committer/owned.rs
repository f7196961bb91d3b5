//! Which task reads which partitions.

use crate::record::SplitId;

/// One list for each task; a partition is in at most one of them.
#[derive(Debug)]
pub struct Owned(pub Vec<Vec<SplitId>>);

impl Owned {
    pub fn tasks(&self) -> std::ops::Range<usize> {
        0..self.0.len()
    }

    pub fn of(&self, task: usize) -> Vec<SplitId> {
        self.0.get(task).cloned().unwrap_or_default()
    }

    /// Gives it to the task that has the fewest. `None`: a task has it already.
    pub fn assign(&mut self, partition: &SplitId) -> Option<usize> {
        if self.0.iter().any(|owned| owned.contains(partition)) {
            return None;
        }
        let all = self.0.iter_mut().enumerate();
        let (task, owned) = all.min_by_key(|(_, owned)| owned.len())?;
        owned.push(partition.clone());
        Some(task)
    }

    /// Takes them from their tasks. Returns which task had which partitions.
    pub fn release(&mut self, partitions: &[SplitId]) -> Vec<(usize, Vec<SplitId>)> {
        let mut released = Vec::new();
        for (task, owned) in self.0.iter_mut().enumerate() {
            let taken: Vec<SplitId> = owned
                .extract_if(.., |partition| partitions.contains(partition))
                .collect();
            if !taken.is_empty() {
                released.push((task, taken));
            }
        }
        released
    }
}
