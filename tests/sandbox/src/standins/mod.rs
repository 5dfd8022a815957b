//! Stand-ins: small programs that do what a controller of AWS' or of others does where that one can't be had. Each says what it stands for.
pub mod alb;
