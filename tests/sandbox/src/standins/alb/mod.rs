//! alb
