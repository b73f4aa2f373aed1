//! One kit of checks, run over every backend: whatever a vault is, the same question gets the same
//! kind of answer. Each backend has a file here with its [`kit::Fixture`]; where a real server
//! written by others can be had, it is that.
//!
//! Each row is a test of its own for each backend (`hcv::missing_key`). What a backend cannot have
//! is left out, and the test's output says so (`-- --nocapture`).

#![allow(
    unreachable_pub,
    reason = "nothing of a test can be reached from outside"
)]

/// Makes a test of each row: `every_row!(kv2: fixture())`, in the backend's own file, where the
/// expression is of type `Result<impl Fixture>`. With `, no server` behind it the faults of servers
/// are left out; with `, faults only` the rows that put objects into the vault, for backends whose
/// objects a test cannot choose.
macro_rules! every_row {
    ($name:ident: $fixture:expr) => {
        mod $name {
            use super::*;
            every_row!(@content $fixture);
            every_row!(@faults $fixture);
        }
    };
    ($name:ident: $fixture:expr, faults only) => {
        mod $name {
            use super::*;
            every_row!(@faults $fixture);
        }
    };
    ($name:ident: $fixture:expr, no server) => {
        mod $name {
            use super::*;
            every_row!(@content $fixture);
        }
    };
    (@content $fixture:expr) => {
        every_row!(@tests $fixture; content:
            create_and_read,
            update_seen_after_the_ttl,
            deleted,
            forbidden,
            missing,
            missing_version,
            json_key,
            missing_key,
            key_of_another_type,
            json_pointer,
            key_of_what_is_no_json,
            versions,
            sixty_four_kib,
            bytes_that_are_no_text,
            bytes_in_base64,
            what_is_no_base64,
            name_with_a_slash,
            name_beyond_ascii,
            name_that_leads_elsewhere,
            a_hundred_objects_at_once,
        );
    };
    (@faults $fixture:expr) => {
        every_row!(@tests $fixture; faults:
            slow_answer,
            stalled_answer,
            connection_refused,
            connection_closed,
            too_many_requests,
            too_many_requests_with_seconds,
            too_many_requests_with_a_date,
            server_error,
            server_unavailable,
            over_after_one_retry,
            answers_403,
            answers_404,
            malformed_answer,
            answer_that_is_no_http,
            truncated_body,
            redirect,
            tls_with_the_right_ca,
            tls_with_a_wrong_ca,
            tls_with_a_wrong_name,
        );
    };
    (@tests $fixture:expr; $group:ident: $($row:ident),+ $(,)?) => {
        $(#[test]
        fn $row() -> anyhow::Result<()> {
            $crate::bench::run(stringify!($row), $fixture, $crate::rows::$group::$row)
        })+
    };
}

mod aws;
mod bench;
mod conjur;
mod env;
mod fs;
mod gcp;
mod hcv;
mod kit;
mod rows;
mod vault;
