//! Kind `manifests`.
