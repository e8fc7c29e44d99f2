//! Whether the gateway is ready for traffic, and if not, why. Each part sets its own condition; nobody is asked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Whether a condition holds, and if not, the reason, for operators.
pub type Condition = Result<(), String>;

/// A cheap clone of the registry of conditions. Ready when every condition that was ever set holds.
#[derive(Clone, Default)]
pub struct Health {
    conditions: Arc<Mutex<BTreeMap<&'static str, Condition>>>,
}

impl Health {
    /// Says how it stands with a condition. A part that has yet to start sets its condition to an error first.
    pub fn set(&self, name: &'static str, condition: Condition) {
        self.conditions.lock().unwrap_or_else(PoisonError::into_inner).insert(name, condition);
    }

    /// The process is stopping: not ready from now on.
    pub fn drain(&self) {
        self.set("draining", Err("the gateway is stopping: it ends what it began and takes nothing new".to_owned()));
    }

    /// Whether all conditions hold, and each of them in the order of their names.
    pub fn report(&self) -> (bool, Vec<(&'static str, Condition)>) {
        let conditions = self.conditions.lock().unwrap_or_else(PoisonError::into_inner);
        let ready = conditions.values().all(Result::is_ok);
        (ready, conditions.iter().map(|(name, condition)| (*name, condition.clone())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failed_condition_makes_the_gateway_not_ready_until_it_holds_again() {
        let health = Health::default();
        health.set("listeners", Ok(()));
        health.set("store", Err("locked".to_owned()));
        assert_eq!(health.report(), (false, vec![("listeners", Ok(())), ("store", Err("locked".to_owned()))]));
        health.set("store", Ok(()));
        assert_eq!(health.report(), (true, vec![("listeners", Ok(())), ("store", Ok(()))]));
    }

    #[test]
    fn draining_flips_readiness() {
        let health = Health::default();
        health.set("store", Ok(()));
        health.clone().drain();
        assert!(!health.report().0);
    }
}
