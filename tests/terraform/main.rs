//! The Terraform stacks, offline: formatting, validity under the real provider's schema, `terraform test` with the sandbox's modules, what
//! the modules make of our calls, the modules' interfaces, the deployer policy. Nothing here needs a network, an account or a sandbox.
mod adoption;
#[path = "../installed/mod.rs"]
mod installed;
mod interfaces;
mod plan;
mod policy;
mod promises;
mod stacks;
mod weakened;
mod workspace;

/// A test's outcome: an error's text is what a person reads.
type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// Fails with what should have been, unless it is.
fn ensure(holds: bool, should: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(should().into()) }
}
