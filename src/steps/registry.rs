//! The kinds by the word that the plan file uses for them, their types erased so that one engine runs them all.
use std::{collections::BTreeMap, marker::PhantomData, path::Path, sync::Arc};

use futures::{FutureExt, future::BoxFuture};
use serde_json::Value;

use super::{Applied, Change, Facts, Kind, Outputs, StepContext, StepPlan, question::Asked};
use crate::failure::Failure;

/// What observing and planning one step has given.
#[derive(Clone, Debug)]
pub struct Considered {
    /// What was found.
    pub observed: Facts,
    /// What will be done about it.
    pub plan: StepPlan,
    /// Outputs that are certain already.
    pub known_outputs: Option<Outputs>,
}

/// [`Kind`] without its types. Inputs are the plan file's `with`, their references resolved.
pub trait AnyKind: Send + Sync {
    /// The word in the plan file.
    fn name(&self) -> &'static str;
    /// The JSON schema of `with`.
    fn input_schema(&self) -> Value;
    /// See [`Kind::bound`].
    fn bound(&self, with: &Value, project: &Path) -> Vec<String>;
    /// See [`Kind::left_out`].
    fn left_out(&self, _with: &Value) -> Option<String> {
        None
    }
    /// See [`Kind::refused`].
    fn refused(&self, _with: &Value) -> Option<Failure> {
        None
    }
    /// See [`Kind::preflight`].
    fn preflight<'a>(&'a self, _cx: &'a StepContext, _with: &'a Value) -> BoxFuture<'a, Result<(), Failure>> {
        async { Ok(()) }.boxed()
    }
    /// See [`Kind::LEAVES_A_PROCESS`].
    fn leaves_a_process(&self) -> bool {
        false
    }
    /// See [`Kind::declared_dead`].
    fn declared_dead<'a>(&'a self, _cx: &'a StepContext, _with: &'a Value, _host: &'a str) -> BoxFuture<'a, Result<Vec<String>, Failure>> {
        async { Ok(Vec::new()) }.boxed()
    }
    /// See [`Kind::questions`].
    fn questions<'a>(&'a self, _cx: &'a StepContext, _input: &'a Value) -> BoxFuture<'a, Result<Asked, Failure>> {
        async { Ok(None) }.boxed()
    }
    /// Observes and plans.
    fn consider<'a>(&'a self, cx: &'a StepContext, input: &'a Value) -> BoxFuture<'a, Result<Considered, Failure>>;
    /// See [`Kind::apply`].
    fn apply<'a>(&'a self, cx: &'a StepContext, input: &'a Value, plan: &'a StepPlan) -> BoxFuture<'a, Result<Applied, Failure>>;
    /// See [`Kind::verify`].
    fn verify<'a>(&'a self, cx: &'a StepContext, input: &'a Value, applied: &'a Applied) -> BoxFuture<'a, Result<(), Failure>>;
    /// See [`Kind::would_delete`].
    fn would_delete<'a>(&'a self, _cx: &'a StepContext, _input: &'a Value) -> BoxFuture<'a, Result<Vec<Change>, Failure>> {
        async { Ok(Vec::new()) }.boxed()
    }
    /// See [`Kind::stays`].
    fn stays<'a>(&'a self, _cx: &'a StepContext, _input: &'a Value) -> BoxFuture<'a, Result<Vec<String>, Failure>> {
        async { Ok(Vec::new()) }.boxed()
    }
    /// See [`Kind::recorded`].
    fn recorded<'a>(&'a self, _cx: &'a StepContext, _with: &'a Value) -> BoxFuture<'a, Result<Outputs, Failure>> {
        async { Ok(Outputs::new()) }.boxed()
    }
    /// See [`Kind::undo`].
    fn undo<'a>(&'a self, cx: &'a StepContext, input: &'a Value) -> BoxFuture<'a, Result<Vec<String>, Failure>>;
}

struct Erased<K>(PhantomData<fn() -> K>);

fn typed<K: Kind>(cx: &StepContext, input: &Value) -> Result<K::Input, Failure> {
    serde_json::from_value(input.clone())
        .map_err(|error| Failure::usage(format!("`with` of step {} does not fit kind {}: {error}", cx.step, K::NAME)).in_step(&cx.step))
}

impl<K: Kind> AnyKind for Erased<K> {
    fn name(&self) -> &'static str {
        K::NAME
    }
    fn input_schema(&self) -> Value {
        schemars::schema_for!(K::Input).to_value()
    }
    fn bound(&self, with: &Value, project: &Path) -> Vec<String> {
        K::bound(with, project)
    }
    fn left_out(&self, with: &Value) -> Option<String> {
        K::left_out(with)
    }
    fn refused(&self, with: &Value) -> Option<Failure> {
        K::refused(with)
    }
    fn preflight<'a>(&'a self, cx: &'a StepContext, with: &'a Value) -> BoxFuture<'a, Result<(), Failure>> {
        K::preflight(cx, with).boxed()
    }
    fn leaves_a_process(&self) -> bool {
        K::LEAVES_A_PROCESS
    }
    fn declared_dead<'a>(&'a self, cx: &'a StepContext, with: &'a Value, host: &'a str) -> BoxFuture<'a, Result<Vec<String>, Failure>> {
        K::declared_dead(cx, with, host).boxed()
    }
    fn questions<'a>(&'a self, cx: &'a StepContext, input: &'a Value) -> BoxFuture<'a, Result<Asked, Failure>> {
        async move { K::questions(cx, &typed::<K>(cx, input)?).await }.boxed()
    }
    fn consider<'a>(&'a self, cx: &'a StepContext, input: &'a Value) -> BoxFuture<'a, Result<Considered, Failure>> {
        async move {
            let input = typed::<K>(cx, input)?;
            let observed = K::observe(cx, &input).await?;
            let plan = K::plan(&input, &observed)?;
            let known_outputs = K::known_outputs(&input, &observed, &plan);
            Ok(Considered { observed: K::facts(&input, &observed)?, plan, known_outputs })
        }
        .boxed()
    }
    fn apply<'a>(&'a self, cx: &'a StepContext, input: &'a Value, plan: &'a StepPlan) -> BoxFuture<'a, Result<Applied, Failure>> {
        async move { K::apply(cx, &typed::<K>(cx, input)?, plan).await }.boxed()
    }
    fn verify<'a>(&'a self, cx: &'a StepContext, input: &'a Value, applied: &'a Applied) -> BoxFuture<'a, Result<(), Failure>> {
        async move { K::verify(cx, &typed::<K>(cx, input)?, applied).await }.boxed()
    }
    fn would_delete<'a>(&'a self, cx: &'a StepContext, input: &'a Value) -> BoxFuture<'a, Result<Vec<Change>, Failure>> {
        async move { K::would_delete(cx, &typed::<K>(cx, input)?).await }.boxed()
    }
    fn stays<'a>(&'a self, cx: &'a StepContext, input: &'a Value) -> BoxFuture<'a, Result<Vec<String>, Failure>> {
        async move { K::stays(cx, &typed::<K>(cx, input)?).await }.boxed()
    }
    fn recorded<'a>(&'a self, cx: &'a StepContext, with: &'a Value) -> BoxFuture<'a, Result<Outputs, Failure>> {
        K::recorded(cx, with).boxed()
    }
    fn undo<'a>(&'a self, cx: &'a StepContext, input: &'a Value) -> BoxFuture<'a, Result<Vec<String>, Failure>> {
        async move { K::undo(cx, &typed::<K>(cx, input)?).await }.boxed()
    }
}

/// All kinds, by name.
#[derive(Clone, Default)]
pub struct Registry {
    kinds: BTreeMap<&'static str, Arc<dyn AnyKind>>,
}

impl Registry {
    /// The kinds that deployctl knows. A new kind is one line here and one file beside this one.
    pub fn standard() -> Self {
        Self::default()
            .with::<super::chart::ChartKind>()
            .with::<super::copied_images::CopiedImages>()
            .with::<super::endpoint_secret::EndpointSecret>()
            .with::<super::external_resources::ExternalResources>()
            .with::<super::image::ImageKind>()
            .with::<super::manifests::ManifestsKind>()
            .with::<super::readers::Readers>()
            .with::<super::restore::Restore>()
            .with::<super::service::ServiceKind>()
            .with::<super::smoke::SmokeKind>()
            .with::<super::state_backend::StateBackend>()
            .with::<super::terraform::Terraform>()
            .with::<super::trial::TrialKind>()
            .with::<super::verification::Verification>()
    }
    /// Adds a kind.
    #[must_use]
    pub fn with<K: Kind>(self) -> Self {
        self.with_erased(Arc::new(Erased::<K>(PhantomData)))
    }
    /// Adds a kind whose types are erased already.
    #[must_use]
    pub fn with_erased(mut self, kind: Arc<dyn AnyKind>) -> Self {
        self.kinds.insert(kind.name(), kind);
        self
    }
    /// The kind of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<dyn AnyKind>> {
        self.kinds.get(name)
    }
    /// The kind of that name, or a failure that lists the known ones.
    pub fn require(&self, name: &str) -> Result<&Arc<dyn AnyKind>, Failure> {
        self.get(name).ok_or_else(|| Failure::usage(format!("there is no kind `{name}`; known kinds: {}", self.names().join(", "))))
    }
    /// All names, sorted.
    pub fn names(&self) -> Vec<&'static str> {
        self.kinds.keys().copied().collect()
    }
}
