//! What was told of every kind, and what of it is news.

use std::collections::btree_map::Entry as Slot;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::news::{News, Told};
use super::read::{self, Id, Read};
use crate::object::{Entry, Known, Parsed};
use crate::problem::{Cause, Fault, Problem};
use crate::source::{Batch, Event};

/// The objects of an API server, as they were told last.
#[derive(Debug)]
pub(super) struct Mirror {
    kinds: BTreeMap<&'static str, OfKind>,
    /// What has not been given in a batch yet.
    events: Vec<Event>,
    /// Whether the problems have changed since the last batch.
    unsettled: bool,
    /// Whether [`Event::Synced`] has been told.
    synced: bool,
}

/// The objects of one kind.
#[derive(Debug, Default)]
struct OfKind {
    /// Whether all of it has been told once.
    complete: bool,
    objects: BTreeMap<Id, Arc<Entry>>,
    problems: BTreeMap<Id, Vec<Problem>>,
    /// Why it cannot be read now.
    failure: Option<Problem>,
}

impl Mirror {
    /// Nothing was told yet of these kinds.
    pub(super) fn new(kinds: &[Known]) -> Self {
        let kinds = kinds.iter().map(|kind| (kind.as_str(), OfKind::default())).collect();
        Self { kinds, events: Vec::new(), unsettled: false, synced: false }
    }

    /// Takes in what is told of a kind.
    pub(super) fn take(&mut self, told: Told) {
        let of_kind = self.kinds.entry(told.kind.as_str()).or_default();
        match told.news {
            News::All(objects) => {
                let there: BTreeSet<Id> = objects.iter().map(|read| read.id.clone()).collect();
                of_kind.keep_only(&there, &mut self.events);
                objects.into_iter().for_each(|read| of_kind.change(read, &mut self.events));
                of_kind.complete = true;
            }
            News::Changed(read) => of_kind.change(read, &mut self.events),
            News::Gone(id) => of_kind.remove(&id, &mut self.events),
            News::Absent => {
                of_kind.keep_only(&BTreeSet::new(), &mut self.events);
                of_kind.complete = true;
            }
            News::Failed(message) => {
                let message = format!("{} cannot be read: {message}", told.kind.as_str());
                let problem = Problem::of_file(Cause::Unreadable, read::origin(), message);
                of_kind.failure = Some(problem);
            }
            News::Recovered => of_kind.failure = None,
        }
        self.unsettled = true;
    }

    /// What is new since the last batch, if anything is.
    pub(super) fn batch(&mut self) -> Option<Batch> {
        if !self.synced && self.kinds.values().all(|of_kind| of_kind.complete) {
            self.synced = true;
            self.events.push(Event::Synced);
        }
        if !std::mem::take(&mut self.unsettled) && self.events.is_empty() {
            return None;
        }
        let events = std::mem::take(&mut self.events);
        let problems = self.kinds.values().flat_map(OfKind::problems).cloned().collect();
        Some(Batch { events, problems })
    }
}

impl OfKind {
    /// Forgets every object but these.
    fn keep_only(&mut self, there: &BTreeSet<Id>, events: &mut Vec<Event>) {
        let known = self.objects.keys().chain(self.problems.keys());
        let gone: BTreeSet<Id> = known.filter(|id| !there.contains(*id)).cloned().collect();
        gone.iter().for_each(|id| self.remove(id, events));
    }

    fn remove(&mut self, id: &Id, events: &mut Vec<Event>) {
        self.problems.remove(id);
        if let Some(entry) = self.objects.remove(id) {
            events.push(Event::Delete(entry.key.clone()));
        }
    }

    /// Takes in an object. Of one that is refused, the last good state stays; one that says what
    /// it said before, as far as the mesh reads it, is no news.
    fn change(&mut self, read: Read, events: &mut Vec<Event>) {
        let (key, faults) = match read.parsed {
            Parsed::Good(entry, warnings) => {
                let (key, entry) = (entry.key.clone(), Arc::from(entry));
                if self.put(read.id.clone(), &entry) {
                    events.push(Event::Upsert(entry));
                }
                (Some(key), warnings)
            }
            Parsed::Refused(meant, faults) => (meant.key().cloned(), faults),
            Parsed::Ignored => (None, Vec::new()),
        };
        let problem = |fault: Fault| fault.of(key.clone(), read.origin.clone());
        let problems: Vec<Problem> = faults.into_iter().map(problem).collect();
        if problems.is_empty() {
            self.problems.remove(&read.id);
        } else {
            self.problems.insert(read.id, problems);
        }
    }

    /// Keeps an object. Says whether it is another one than before.
    fn put(&mut self, id: Id, entry: &Arc<Entry>) -> bool {
        match self.objects.entry(id) {
            Slot::Occupied(before) if before.get() == entry => false,
            Slot::Occupied(mut before) => {
                before.insert(Arc::clone(entry));
                true
            }
            Slot::Vacant(slot) => {
                slot.insert(Arc::clone(entry));
                true
            }
        }
    }

    fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.failure.iter().chain(self.problems.values().flatten())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(name: &str, port: u16) -> Read {
        let value = json!({"metadata": {"name": name, "namespace": "shop"},
            "spec": {"ports": [{"port": port}]}});
        read::read(value, Known::Service)
    }

    fn mirror() -> Mirror {
        Mirror::new(&[Known::Service, Known::HttpRoute])
    }

    fn tell(mirror: &mut Mirror, news: News) -> Option<(Vec<String>, usize)> {
        mirror.take(Told { kind: Known::Service, news });
        let batch = mirror.batch()?;
        let events = batch.events.iter().map(|event| match event {
            Event::Upsert(entry) => format!("+{}", entry.key.name),
            Event::Delete(key) => format!("-{}", key.name),
            Event::Synced => "synced".into(),
        });
        Some((events.collect(), batch.problems.len()))
    }

    fn told(events: &[&str], problems: usize) -> Option<(Vec<String>, usize)> {
        Some((events.iter().map(ToString::to_string).collect(), problems))
    }

    #[test]
    fn it_is_synced_when_every_kind_is_complete() {
        let mut mirror = mirror();
        let all = News::All(vec![service("a", 80)]);
        assert_eq!(tell(&mut mirror, all), told(&["+a"], 0));
        mirror.take(Told { kind: Known::HttpRoute, news: News::Absent });
        assert_eq!(mirror.batch().unwrap().events, [Event::Synced]);
        assert_eq!(mirror.batch(), None);
    }

    #[test]
    fn a_list_says_also_what_is_gone_and_repeats_nothing() {
        let mut mirror = mirror();
        tell(&mut mirror, News::All(vec![service("a", 80), service("b", 80)]));
        let all = News::All(vec![service("b", 80), service("c", 80)]);
        assert_eq!(tell(&mut mirror, all), told(&["-a", "+c"], 0));
        assert_eq!(tell(&mut mirror, News::Changed(service("c", 81))), told(&["+c"], 0));
        assert_eq!(tell(&mut mirror, News::Changed(service("c", 81))), told(&[], 0));
        let gone = News::Gone(("shop".into(), "c".into()));
        assert_eq!(tell(&mut mirror, gone), told(&["-c"], 0));
    }

    #[test]
    fn of_a_refused_object_the_last_good_state_stays() {
        let mut mirror = mirror();
        tell(&mut mirror, News::All(vec![service("a", 80)]));
        assert_eq!(tell(&mut mirror, News::Changed(service("a", 0))), told(&[], 1));
        assert_eq!(tell(&mut mirror, News::Changed(service("a", 80))), told(&[], 0));
        tell(&mut mirror, News::Changed(service("a", 0)));
        assert_eq!(tell(&mut mirror, News::All(vec![service("a", 0)])), told(&[], 1));
        assert_eq!(tell(&mut mirror, News::All(Vec::new())), told(&["-a"], 0));
    }

    #[test]
    fn a_failure_is_a_problem_until_it_is_over() {
        let mut mirror = mirror();
        tell(&mut mirror, News::All(vec![service("a", 80)]));
        assert_eq!(tell(&mut mirror, News::Failed("gone".into())), told(&[], 1));
        assert_eq!(tell(&mut mirror, News::Recovered), told(&[], 0));
    }
}
