//! The last requests that were not served, by request id, so that an operator who is given an id can be told why.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crate::observe::Record;

/// A cheap clone. Holds the newest 4096 records and forgets the oldest first.
#[derive(Clone, Default)]
pub struct RecentRefusals {
    newest_last: Arc<Mutex<VecDeque<Refusal>>>,
}

struct Refusal {
    request_id: String,
    /// As in the access log, where every field is cut: the memory has a bound whatever was sent.
    json: String,
}

impl RecentRefusals {
    pub fn remember(&self, record: &Record) {
        let refusal = Refusal { request_id: record.request_id.clone(), json: record.json() };
        let mut newest_last = self.newest_last.lock().unwrap_or_else(PoisonError::into_inner);
        // Freed after the lock.
        let _oldest = if newest_last.len() >= CAPACITY { newest_last.pop_front() } else { None };
        newest_last.push_back(refusal);
        drop(newest_last);
    }

    /// The record as a JSON object; the newest one when a client uses an id again.
    pub fn find(&self, request_id: &str) -> Option<String> {
        let newest_last = self.newest_last.lock().unwrap_or_else(PoisonError::into_inner);
        newest_last.iter().rev().find(|refusal| refusal.request_id == request_id).map(|refusal| refusal.json.clone())
    }
}

/// Records that are held at most.
const CAPACITY: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::samples::refused;

    #[test]
    fn the_oldest_record_gives_way_to_the_4097th() {
        let refusals = RecentRefusals::default();
        for number in 0..4096 {
            refusals.remember(&refused(&format!("r-{number}")));
        }
        assert_eq!(refusals.find("r-0"), Some(refused("r-0").json()));
        refusals.remember(&refused("r-4096"));
        assert_eq!(refusals.find("r-0"), None);
        assert_eq!(refusals.find("r-1"), Some(refused("r-1").json()));
        assert_eq!(refusals.find("r-4096"), Some(refused("r-4096").json()));
    }

    #[test]
    fn the_newest_record_of_an_id_is_found() {
        let refusals = RecentRefusals::default();
        refusals.remember(&refused("same"));
        let newer = Record { status: 403, ..refused("same") };
        refusals.remember(&newer);
        assert_eq!(refusals.find("same"), Some(newer.json()));
    }
}
