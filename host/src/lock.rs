//! Locks whose value stays valid after a thread panicked while it held them: every change under them is one assignment,
//! or may be seen half done.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes the lock, even if the thread that held it last panicked.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
