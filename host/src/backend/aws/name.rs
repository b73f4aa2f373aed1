//! Names of secrets, and ARNs, which are another spelling of them.
//!
//! A secret has one name in one account and region, so an ARN says no more than a name does but for
//! where it is. Where it is must be where the vault looks. The six characters that AWS puts behind
//! the name in an ARN tell apart secrets that had one name one after the other; they are taken off,
//! so that name and ARN are one object to policy and cache.

use crate::backend::{ReadError, ReadErrorKind};

/// The longest name of a secret.
const MAX_NAME: usize = 512;

/// What a resource says.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Name {
    /// The secret's name.
    pub(super) text: String,
    /// The account, if it is an ARN that was given.
    pub(super) account: Option<u64>,
}

impl Name {
    /// Reads a name, or an ARN of this region.
    ///
    /// # Errors
    /// No secret can be called so, the ARN is not whole, or is one of another region.
    pub(super) fn parse(resource: &str, region: &str) -> Result<Self, ReadError> {
        if !resource.starts_with("arn:") {
            return Ok(Self {
                text: checked(resource)?.to_owned(),
                account: None,
            });
        }
        let arn = Arn::parse(resource).ok_or_else(|| {
            invalid(
                "an ARN of a secret is arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME-XXXXXX, whole",
            )
        })?;
        if arn.region != region {
            return Err(ReadError::new(
                ReadErrorKind::Denied,
                "the ARN is one of another region than the vault's",
            ));
        }
        Ok(Self {
            text: checked(arn.name)?.to_owned(),
            account: Some(arn.account),
        })
    }
}

/// The account of a secret, by the ARN in an answer.
pub(super) fn account(arn: &str) -> Option<u64> {
    Arn::parse(arn).map(|arn| arn.account)
}

/// A pattern of a `deny` that is written as an ARN, as a pattern of names: it holds in every region
/// and account, and whatever stands for the six characters. All else stays as it is.
pub(super) fn without_arn(pattern: &str) -> String {
    let Some((_, name)) = pattern
        .strip_prefix("arn:")
        .and_then(|rest| rest.split_once(":secret:"))
    else {
        return pattern.to_owned();
    };
    if let Some(start) = name.strip_suffix("-*") {
        return format!("{start}*");
    }
    without_suffix(name).unwrap_or(name).to_owned()
}

struct Arn<'a> {
    region: &'a str,
    account: u64,
    /// Without the six characters.
    name: &'a str,
}

impl<'a> Arn<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.splitn(7, ':');
        let mut next = || parts.next();
        let (arn, partition, service) = (next()?, next()?, next()?);
        let (region, account, kind, name) = (next()?, next()?, next()?, next()?);
        let is_partition = partition == "aws" || partition.starts_with("aws-");
        let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
        if arn != "arn"
            || !is_partition
            || service != "secretsmanager"
            || !is_account
            || kind != "secret"
        {
            return None;
        }
        Some(Self {
            region,
            account: account.parse().ok()?,
            name: without_suffix(name)?,
        })
    }
}

fn without_suffix(name: &str) -> Option<&str> {
    let (name, suffix) = name.rsplit_once('-')?;
    let is_suffix = suffix.len() == 6 && suffix.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_suffix.then_some(name)
}

fn checked(name: &str) -> Result<&str, ReadError> {
    let is_of_names = |byte: u8| byte.is_ascii_alphanumeric() || b"/_+=.@-".contains(&byte);
    if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(is_of_names) {
        return Err(invalid(
            "a secret's name is of 1 to 512 ASCII letters, digits and /_+=.@-",
        ));
    }
    Ok(name)
}

fn invalid(cause: &'static str) -> ReadError {
    ReadError::new(ReadErrorKind::InvalidName, cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:secretsmanager:eu-west-1:012345678901:secret:";

    fn parse(resource: &str) -> Result<(String, Option<u64>), ReadErrorKind> {
        Name::parse(resource, "eu-west-1")
            .map(|name| (name.text, name.account))
            .map_err(|error| error.kind)
    }

    #[test]
    fn a_name_and_its_arn_are_one() {
        for name in [
            "a",
            "prod/db",
            "/x",
            "a//b",
            "../x",
            "a-b_c+d=e.f@g",
            "x-AbCdEf",
        ] {
            assert_eq!(parse(name), Ok((name.to_owned(), None)));
            let account = Some(12_345_678_901);
            assert_eq!(
                parse(&format!("{ARN}{name}-AbC123")),
                Ok((name.to_owned(), account))
            );
        }
        let china = "arn:aws-cn:secretsmanager:eu-west-1:012345678901:secret:x-AbC123";
        assert_eq!(parse(china), Ok(("x".to_owned(), Some(12_345_678_901))));
        let longest = "x".repeat(512);
        assert_eq!(parse(&longest), Ok((longest.clone(), None)));
    }

    #[test]
    fn what_is_neither_is_no_name() {
        let longest = "x".repeat(513);
        let of_arn = [
            "x",
            "x-abc12",
            "x-abc1234",
            "-AbC123",
            "x y-AbC123",
            "x-Ab:123",
            "",
        ];
        let of_arn: Vec<_> = of_arn.iter().map(|name| format!("{ARN}{name}")).collect();
        let bad = [
            "",
            " x",
            "x\n",
            "x\0",
            "a:b",
            "ä",
            "a%2Fb",
            "a\\b",
            "a?b",
            "a#b",
            "a*",
            &longest,
            "arn:aws:secretsmanager:eu-west-1:012345678901:secret",
            "arn:aws:ssm:eu-west-1:012345678901:secret:x-AbC123",
            "arn:aws:secretsmanager:eu-west-1:01234567890:secret:x-AbC123",
            "arn:aws:secretsmanager:eu-west-1:+12345678901:secret:x-AbC123",
            "arn:aws:secretsmanager:eu-west-1::secret:x-AbC123",
            "arn:aws:secretsmanager:eu-west-1:012345678901:other:x-AbC123",
            "arn:gcp:secretsmanager:eu-west-1:012345678901:secret:x-AbC123",
            "arn:",
        ];
        for bad in bad.into_iter().chain(of_arn.iter().map(String::as_str)) {
            assert_eq!(parse(bad), Err(ReadErrorKind::InvalidName), "{bad:?}");
        }
    }

    #[test]
    fn another_region_lies_outside_of_the_vault() {
        let arn = "arn:aws:secretsmanager:us-east-1:012345678901:secret:x-AbC123";
        assert_eq!(parse(arn), Err(ReadErrorKind::Denied));
    }

    #[test]
    fn patterns_that_are_arns_mean_names() {
        for (pattern, name) in [
            ("prod/*", "prod/*"),
            ("x-AbCdEf", "x-AbCdEf"),
            (
                "arn:aws:secretsmanager:*:*:secret:prod/db-AbCdEf",
                "prod/db",
            ),
            ("arn:*:secret:prod/*", "prod/*"),
            ("arn:*:secret:prod/db-*", "prod/db*"),
            ("arn:*", "arn:*"),
        ] {
            assert_eq!(without_arn(pattern), name, "{pattern}");
        }
    }
}
