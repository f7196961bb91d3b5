//! Locks whose value stays valid after a thread panicked while it held them: every change under them is one assignment,
//! or may be seen half done.

use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

/// Takes the lock, even if the thread that held it last panicked.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The same without waiting. `None`: somebody else has it.
pub fn try_lock<T: ?Sized>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(held) => Some(held),
        Err(TryLockError::Poisoned(held)) => Some(held.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_gives_a_lock_free() {
        let mutex = Mutex::new(1);
        let panicked = std::thread::scope(|scope| {
            let holds = scope.spawn(|| {
                let _held = lock(&mutex);
                panic!("while it is held");
            });
            holds.join().is_err()
        });
        assert!(panicked && mutex.is_poisoned());
        assert_eq!(try_lock(&mutex).as_deref(), Some(&1));
        let held = lock(&mutex);
        assert!(try_lock(&mutex).is_none(), "{held}");
    }
}
