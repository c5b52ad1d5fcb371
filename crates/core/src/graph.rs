//! Who depends on whom, and how many instances of each service are in which condition. The counts make every question
//! about a dependency a comparison of numbers, however many instances there are.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use crate::service::Facet;
use crate::spec::{Condition, Dependency, ServiceSpec, Specs};

/// All services by name, with the edges between them.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    pub(crate) groups: Vec<Group>,
    by_name: BTreeMap<Arc<str>, usize>,
}

/// One service: its instances share their edges.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) name: Arc<str>,
    pub(crate) deps: Vec<Edge>,
    /// Groups that depend on this one.
    pub(crate) dependents: Vec<usize>,
    /// Slots of its instances.
    pub(crate) instances: Vec<usize>,
    pub(crate) counts: Counts,
}

/// A dependency on another group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Edge {
    pub(crate) group: usize,
    pub(crate) condition: Condition,
    pub(crate) required: bool,
    pub(crate) bind: bool,
}

/// Instances of a group by what is so of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) all: usize,
    pub(crate) started: usize,
    pub(crate) up: usize,
    pub(crate) well: usize,
    pub(crate) completed: usize,
    /// Not coming by itself, and not started, not up, not completed.
    absent: [usize; 3],
    /// Not coming by itself.
    pub(crate) in_vain: usize,
    pub(crate) stopping: usize,
}

impl Counts {
    /// An instance changes from `old` to `new`.
    pub(crate) fn change(&mut self, old: Facet, new: Facet) {
        let step = |n: &mut usize, was: bool, is: bool| match (was, is) {
            (false, true) => *n += 1,
            (true, false) => *n = n.saturating_sub(1),
            (true, true) | (false, false) => {}
        };
        step(&mut self.all, old.counted, new.counted);
        step(&mut self.started, old.started, new.started);
        step(&mut self.up, old.up, new.up);
        step(&mut self.well, old.well, new.well);
        step(&mut self.completed, old.completed, new.completed);
        let absent = |f: Facet| [f.absent && !f.started, f.absent && !f.well, f.absent && !f.completed];
        for ((n, was), is) in self.absent.iter_mut().zip(absent(old)).zip(absent(new)) {
            step(n, was, is);
        }
        step(&mut self.in_vain, old.absent, new.absent);
        step(&mut self.stopping, old.stopping, new.stopping);
    }

    /// Every instance meets the condition.
    pub(crate) fn meet(&self, condition: Condition) -> bool {
        self.number(condition) >= self.all
    }

    /// Every instance meets the condition, or did until a check of its own took its readiness away.
    pub(crate) fn lives(&self, condition: Condition) -> bool {
        self.number(condition).max(if condition == Condition::Ready { self.up } else { 0 }) >= self.all
    }

    /// Every instance meets the condition or is not coming by itself.
    pub(crate) fn meet_or_absent(&self, condition: Condition) -> bool {
        let absent = match condition {
            Condition::Started => self.absent[0],
            Condition::Ready => self.absent[1],
            Condition::Completed => self.absent[2],
        };
        self.number(condition) + absent >= self.all
    }

    fn number(&self, condition: Condition) -> usize {
        match condition {
            Condition::Started => self.started,
            Condition::Ready => self.well,
            Condition::Completed => self.completed,
        }
    }
}

impl Graph {
    /// From the specifications in force, and those of services that are gone from them but still run.
    pub(crate) fn new<'a>(
        specs: &'a Specs,
        leaving: impl Iterator<Item = (&'a Arc<str>, &'a ServiceSpec)>,
    ) -> Self {
        let mut all: BTreeMap<&Arc<str>, &ServiceSpec> = leaving.collect();
        all.extend(specs.services.iter());
        let mut graph = Graph::default();
        for (at, name) in all.keys().enumerate() {
            graph.by_name.insert(Arc::clone(name), at);
            graph.groups.push(Group {
                name: Arc::clone(name),
                deps: Vec::new(),
                dependents: Vec::new(),
                instances: Vec::new(),
                counts: Counts::default(),
            });
        }
        for (at, spec) in all.values().enumerate() {
            for dep in &spec.depends_on {
                graph.add_edge(at, dep);
            }
        }
        graph
    }

    fn add_edge(&mut self, from: usize, dep: &Dependency) {
        // A service that is leaving may name one that has gone already.
        let Some(on) = self.group(&dep.on) else { return };
        if on == from {
            return;
        }
        let Dependency { condition, required, bind, .. } = *dep;
        self.groups[from].deps.push(Edge { group: on, condition, required, bind });
        if !self.groups[on].dependents.contains(&from) {
            self.groups[on].dependents.push(from);
        }
    }

    /// The group of this name.
    pub(crate) fn group(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// Groups so that each comes after all that it depends on; those that could start together stand together, in the
    /// order of names. Every group is in it, even if a cycle slipped past the configuration's check.
    pub(crate) fn start_order(&self) -> Vec<usize> {
        let mut missing: Vec<usize> = self
            .groups
            .iter()
            .map(|g| g.deps.iter().map(|e| e.group).collect::<BTreeSet<_>>().len())
            .collect();
        let mut order = Vec::with_capacity(self.groups.len());
        let mut wave: Vec<usize> = (0..self.groups.len()).filter(|g| missing[*g] == 0).collect();
        while !wave.is_empty() {
            let mut next = Vec::new();
            for group in &wave {
                for dependent in &self.groups[*group].dependents {
                    missing[*dependent] -= 1;
                    if missing[*dependent] == 0 {
                        next.push(*dependent);
                    }
                }
            }
            next.sort_unstable();
            order.append(&mut wave);
            wave = next;
        }
        let mut placed = vec![false; self.groups.len()];
        for group in &order {
            placed[*group] = true;
        }
        order.extend((0..placed.len()).filter(|g| !placed[*g]));
        order
    }

    /// `from` and all groups that depend on them, directly or not, over edges that `follow` accepts.
    pub(crate) fn dependents(
        &self,
        from: &BTreeSet<usize>,
        follow: impl Fn(&Edge) -> bool,
    ) -> BTreeSet<usize> {
        let mut found = from.clone();
        let mut open: Vec<usize> = from.iter().copied().collect();
        while let Some(group) = open.pop() {
            for dependent in &self.groups[group].dependents {
                let bound = self.groups[*dependent].deps.iter().any(|e| e.group == group && follow(e));
                if bound && found.insert(*dependent) {
                    open.push(*dependent);
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn specs(edges: &[(&str, &[&str])]) -> Specs {
        let mut specs = Specs::default();
        for (name, deps) in edges {
            let depends_on = deps
                .iter()
                .map(|on| Dependency {
                    on: Arc::from(*on),
                    condition: Condition::Ready,
                    required: true,
                    bind: false,
                })
                .collect();
            specs.services.insert(Arc::from(*name), ServiceSpec { depends_on, ..ServiceSpec::default() });
        }
        specs
    }

    fn names(graph: &Graph, groups: impl IntoIterator<Item = usize>) -> Vec<&str> {
        groups.into_iter().map(|g| &*graph.groups[g].name).collect()
    }

    #[test]
    fn start_order_goes_in_waves() {
        let specs = specs(&[("a", &["d"]), ("b", &[]), ("c", &["a", "b"]), ("d", &[])]);
        let graph = Graph::new(&specs, core::iter::empty());
        assert_eq!(names(&graph, graph.start_order()), ["b", "d", "a", "c"]);
    }

    #[test]
    fn a_cycle_loses_no_service() {
        let specs = specs(&[("a", &["b"]), ("b", &["a"]), ("c", &[])]);
        let graph = Graph::new(&specs, core::iter::empty());
        assert_eq!(names(&graph, graph.start_order()), ["c", "a", "b"]);
    }

    #[test]
    fn dependents_are_followed_to_the_end() {
        let specs = specs(&[("a", &[]), ("b", &["a"]), ("c", &["b"]), ("d", &[])]);
        let graph = Graph::new(&specs, core::iter::empty());
        let from = BTreeSet::from([graph.group("a").unwrap()]);
        assert_eq!(names(&graph, graph.dependents(&from, |_| true)), ["a", "b", "c"]);
        assert_eq!(names(&graph, graph.dependents(&from, |e| e.bind)), ["a"]);
    }
}
