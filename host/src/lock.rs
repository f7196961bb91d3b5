//! Locks whose value is sound also after a thread panicked while it held them: every change under them is one assignment, or
//! can be seen half done.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The lock, whatever became of the thread that held it last.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
