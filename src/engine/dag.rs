//! The order of steps: who needs whom, and which steps may run now. Runs them side by side up to a cap.
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    num::NonZeroUsize,
};

use futures::{StreamExt, stream::FuturesUnordered};
use petgraph::graph::{DiGraph, NodeIndex};
use tokio_util::sync::CancellationToken;

use crate::{failure::Failure, ids::StepId};

/// Steps and what each of them needs. Has no cycle.
#[derive(Clone, Debug)]
pub struct Dag {
    order: Vec<StepId>,
    needs: BTreeMap<StepId, BTreeSet<StepId>>,
}

/// Steps that need each other in a circle; the first is repeated at the end.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("steps need each other in a circle: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(" -> "))]
pub struct Cycle(pub Vec<StepId>);

impl Dag {
    /// Builds the graph; needs of steps that do not exist are left out, the plan file's checks report them.
    pub fn new<'a>(steps: impl IntoIterator<Item = (&'a StepId, &'a [StepId])>) -> Result<Self, Cycle> {
        let steps: Vec<_> = steps.into_iter().collect();
        // A node's index is its step's position in the file.
        let mut graph = DiGraph::<(), ()>::new();
        let index: BTreeMap<&StepId, usize> = steps.iter().enumerate().map(|(at, (id, _))| (*id, at)).collect();
        let mut needs = BTreeMap::new();
        for _ in &steps {
            graph.add_node(());
        }
        for (at, (id, needed)) in steps.iter().enumerate() {
            let known: BTreeSet<StepId> = needed.iter().filter(|n| index.contains_key(n)).cloned().collect();
            for need in &known {
                graph.add_edge(NodeIndex::new(index[need]), NodeIndex::new(at), ());
            }
            needs.insert((*id).clone(), known);
        }
        for component in petgraph::algo::tarjan_scc(&graph) {
            if component.len() > 1 || component.first().is_some_and(|n| graph.find_edge(*n, *n).is_some()) {
                return Err(Cycle(circle(&graph, &component).into_iter().map(|at| steps[at.index()].0.clone()).collect()));
            }
        }
        Ok(Self { order: file_order(&steps, &needs), needs })
    }
    /// All steps, in the file's order as far as needs allow.
    pub fn order(&self) -> &[StepId] {
        &self.order
    }
    /// What a step needs directly.
    pub fn needs(&self, step: &StepId) -> impl Iterator<Item = &StepId> {
        self.needs.get(step).into_iter().flatten()
    }
    /// Everything that a step needs, directly or through others.
    pub fn all_needs(&self, step: &StepId) -> BTreeSet<StepId> {
        let mut found = BTreeSet::new();
        let mut queue: VecDeque<&StepId> = self.needs(step).collect();
        while let Some(next) = queue.pop_front() {
            if found.insert(next.clone()) {
                queue.extend(self.needs(next));
            }
        }
        found
    }
    /// The step and everything that needs it, directly or through others.
    pub fn with_dependents(&self, step: &StepId) -> BTreeSet<StepId> {
        self.order.iter().filter(|id| *id == step || self.all_needs(id).contains(step)).cloned().collect()
    }
    /// The same steps with every arrow turned round: for taking things away.
    #[must_use]
    pub fn reversed(&self) -> Self {
        let mut needs: BTreeMap<StepId, BTreeSet<StepId>> = self.order.iter().map(|id| (id.clone(), BTreeSet::new())).collect();
        for (id, needed) in &self.needs {
            for need in needed {
                needs.entry(need.clone()).or_default().insert(id.clone());
            }
        }
        Self { order: self.order.iter().rev().cloned().collect(), needs }
    }
}

/// A shortest circle inside one strongly connected component.
fn circle(graph: &DiGraph<(), ()>, component: &[NodeIndex]) -> Vec<NodeIndex> {
    let start = component.iter().copied().min().unwrap_or_default();
    let members: BTreeSet<NodeIndex> = component.iter().copied().collect();
    let mut came_from = BTreeMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(at) = queue.pop_front() {
        for next in graph.neighbors(at).filter(|n| members.contains(n)) {
            if next == start {
                let mut path = vec![start, at];
                let mut back = at;
                while let Some(&before) = came_from.get(&back) {
                    path.push(before);
                    back = before;
                }
                if at == start {
                    return vec![start, start];
                }
                return path;
            }
            if let std::collections::btree_map::Entry::Vacant(entry) = came_from.entry(next) {
                entry.insert(at);
                queue.push_back(next);
            }
        }
    }
    vec![start]
}

fn file_order(steps: &[(&StepId, &[StepId])], needs: &BTreeMap<StepId, BTreeSet<StepId>>) -> Vec<StepId> {
    let mut order: Vec<StepId> = Vec::new();
    let mut placed: BTreeSet<&StepId> = BTreeSet::new();
    while placed.len() < needs.len() {
        // Without a cycle there is always a next one; the guard only keeps a broken invariant from looping for ever.
        let Some((id, _)) = steps.iter().find(|(id, _)| !placed.contains(id) && needs[*id].iter().all(|n| placed.contains(n))) else {
            break;
        };
        placed.insert(id);
        order.push((*id).clone());
    }
    order
}

/// What came of every step that was started; a step that is not in here never was.
pub type Results<T> = BTreeMap<StepId, Result<T, Failure>>;

/// Runs `work` for every step as soon as all it needs has ended well, at most `parallel` at a time.
/// After a failure or a cancellation nothing new starts, and what runs is waited for.
pub async fn run<T, F, Fut>(dag: &Dag, parallel: NonZeroUsize, cancel: &CancellationToken, work: F) -> Results<T>
where
    F: Fn(StepId) -> Fut,
    Fut: Future<Output = (StepId, Result<T, Failure>)>,
{
    let mut results = Results::new();
    let mut started = BTreeSet::new();
    let mut running = FuturesUnordered::new();
    let mut failed = false;
    loop {
        if !failed && !cancel.is_cancelled() {
            for step in ready(dag, &started, &results) {
                if running.len() == parallel.get() {
                    break;
                }
                started.insert(step.clone());
                running.push(work(step));
            }
        }
        let Some((step, result)) = running.next().await else { return results };
        failed |= result.is_err();
        results.insert(step, result);
    }
}

/// The steps that may start now, in the file's order.
fn ready<T>(dag: &Dag, started: &BTreeSet<StepId>, results: &Results<T>) -> Vec<StepId> {
    let done = |id: &StepId| matches!(results.get(id), Some(Ok(_)));
    dag.order.iter().filter(|id| !started.contains(id) && dag.needs(id).all(done)).cloned().collect()
}

#[cfg(test)]
#[path = "dag_tests.rs"]
mod tests;
