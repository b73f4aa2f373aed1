//! `hcv` against real OpenBao: each way to log in that it has, and the life of the tokens.

mod approle;
mod aws_iam;
mod cert;
mod jwt;
mod kubernetes;
mod life;
mod states;
mod vault;
