//! moto, which stands in for AWS: Secrets Manager, IAM and STS, with signatures checked and
//! policies enforced, and what a scenario does to it as its operator.
//!
//! Everything is in memory. What a client may do without keys of the operator's is what the policies
//! of users and roles say that the operator made.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::client::{Request, Response};
use crate::process::{Process, Program};
use crate::{paths, ports, wait};

/// The region of all that the operator makes.
pub const REGION: &str = "eu-central-1";

/// The account that everything belongs to.
pub const ACCOUNT: &str = "123456789012";

/// Shows the server that it is the operator who calls; not known to who is tested.
const OPERATOR: &str = "the-operator";

/// A running moto. Dropping it kills it.
#[derive(Debug)]
pub struct Moto {
    process: Process,
    address: SocketAddr,
}

/// The keys of a user, or of a role that was taken on.
#[derive(Clone, Debug)]
pub struct Keys {
    /// The public part.
    pub id: String,
    /// The secret part.
    pub secret: String,
    /// A role's keys are good only with this.
    pub token: Option<String>,
}

impl Moto {
    /// Starts it, and waits until it answers.
    ///
    /// # Errors
    ///
    /// When it is not installed or does not come up.
    pub fn start() -> Result<Self> {
        ports::retry_when_taken(|| Self::start_at(ports::free()?))
    }

    /// Starts it at an address that is known already.
    ///
    /// # Errors
    ///
    /// When it is not installed, does not come up, or the address was taken.
    pub fn start_at(address: SocketAddr) -> Result<Self> {
        let process = Program::new("moto", paths::moto_python()?)
            .args(["-c", include_str!("moto.py")])
            .args(["-H", &address.ip().to_string()])
            .args(["-p", &address.port().to_string()])
            .env("OPERATOR", OPERATOR)
            .env("INITIAL_NO_AUTH_ACTION_COUNT", "0")
            .spawn()?;
        process.wait_until("answering", wait::START, || {
            let answer = Request::get("/moto-api/data.json").send(address);
            Ok(answer.ok().filter(|answer| answer.status == 200).map(drop))
        })?;
        Ok(Self { process, address })
    }

    /// Where it speaks HTTP.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its address as clients of AWS take it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its process, to be frozen or killed.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Makes a secret, or a new version of it. Gives its ARN.
    ///
    /// # Errors
    ///
    /// When the server refuses.
    pub fn put(&self, name: &str, text: &str) -> Result<String> {
        self.put_value(name, "SecretString", text)
    }

    /// The same with bytes.
    ///
    /// # Errors
    ///
    /// When the server refuses.
    pub fn put_bytes(&self, name: &str, bytes: &[u8]) -> Result<String> {
        self.put_value(name, "SecretBinary", &STANDARD.encode(bytes))
    }

    /// Makes a secret that has no value.
    ///
    /// # Errors
    ///
    /// When the server refuses.
    pub fn put_nothing(&self, name: &str) -> Result<()> {
        self.secrets("CreateSecret", &json!({ "Name": name }))
            .map(drop)
    }

    /// Removes a secret at once.
    ///
    /// # Errors
    ///
    /// When the server refuses.
    pub fn delete(&self, name: &str) -> Result<()> {
        let body = json!({ "SecretId": name, "ForceDeleteWithoutRecovery": true });
        self.secrets("DeleteSecret", &body).map(drop)
    }

    /// Has a secret wait for its removal.
    ///
    /// # Errors
    ///
    /// When the server refuses.
    pub fn schedule_deletion(&self, name: &str) -> Result<()> {
        let body = json!({ "SecretId": name, "RecoveryWindowInDays": 7 });
        self.secrets("DeleteSecret", &body).map(drop)
    }

    /// Makes a user whose policy is these statements. Gives its keys.
    ///
    /// # Errors
    ///
    /// When the server refuses.
    pub fn create_user(&self, name: &str, statements: &Value) -> Result<Keys> {
        self.iam("CreateUser", &[("UserName", name)])?;
        self.set_policy(name, statements)?;
        self.create_keys(name)
    }

    /// Gives a user another policy.
    ///
    /// # Errors
    ///
    /// When the server refuses.
    pub fn set_policy(&self, user: &str, statements: &Value) -> Result<()> {
        let fields = [
            ("UserName", user),
            ("PolicyName", "own"),
            ("PolicyDocument", &document(statements)),
        ];
        self.iam("PutUserPolicy", &fields).map(drop)
    }

    /// Makes keys worthless.
    ///
    /// # Errors
    ///
    /// When the server refuses.
    pub fn delete_keys(&self, user: &str, keys: &Keys) -> Result<()> {
        let fields = [("UserName", user), ("AccessKeyId", &*keys.id)];
        self.iam("DeleteAccessKey", &fields).map(drop)
    }

    /// Makes further keys of a user.
    ///
    /// # Errors
    ///
    /// When the server refuses.
    pub fn create_keys(&self, user: &str) -> Result<Keys> {
        let answer = self.iam("CreateAccessKey", &[("UserName", user)])?;
        Ok(Keys {
            id: element(&answer, "AccessKeyId")?,
            secret: element(&answer, "SecretAccessKey")?,
            token: None,
        })
    }

    /// Keys of a role, as AWS gives them to what runs there in that role.
    ///
    /// # Errors
    ///
    /// When the server refuses.
    pub fn take_on(&self, role: &str) -> Result<Keys> {
        let fields = [("RoleArn", role), ("RoleSessionName", "operator")];
        let answer = self.form("sts", "2011-06-15", "AssumeRole", &fields)?;
        Ok(Keys {
            id: element(&answer, "AccessKeyId")?,
            secret: element(&answer, "SecretAccessKey")?,
            token: Some(element(&answer, "SessionToken")?),
        })
    }

    /// Makes a role that these principals (ARNs) may take on, and whose policy is these statements.
    /// Gives its ARN.
    ///
    /// # Errors
    ///
    /// When the server refuses.
    pub fn create_role(&self, name: &str, who: &[&str], statements: &Value) -> Result<String> {
        let trust = json!([{
            "Effect": "Allow", "Principal": { "AWS": who }, "Action": "sts:AssumeRole",
        }]);
        let fields = [
            ("RoleName", name),
            ("AssumeRolePolicyDocument", &document(&trust)),
        ];
        let answer = self.iam("CreateRole", &fields)?;
        let fields = [
            ("RoleName", name),
            ("PolicyName", "own"),
            ("PolicyDocument", &document(statements)),
        ];
        self.iam("PutRolePolicy", &fields)?;
        element(&answer, "Arn")
    }

    /// Any call of Secrets Manager as the operator.
    ///
    /// # Errors
    ///
    /// When the server refuses.
    pub fn secrets(&self, action: &str, body: &Value) -> Result<Value> {
        let request = Request::post("/", body.to_string())
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-target", format!("secretsmanager.{action}"));
        self.call("secretsmanager", action, request)?.json()
    }

    fn put_value(&self, name: &str, field: &str, value: &str) -> Result<String> {
        let body = json!({ "SecretId": name, field: value });
        let answer = match self.secrets("PutSecretValue", &body) {
            Err(error) if error.to_string().contains("ResourceNotFoundException") => {
                self.secrets("CreateSecret", &json!({ "Name": name, field: value }))?
            }
            answer => answer?,
        };
        let arn = answer["ARN"].as_str().context("no ARN in the answer")?;
        Ok(arn.to_owned())
    }

    fn iam(&self, action: &str, fields: &[(&str, &str)]) -> Result<String> {
        self.form("iam", "2010-05-08", action, fields)
    }

    fn form(
        &self,
        service: &str,
        version: &str,
        action: &str,
        fields: &[(&str, &str)],
    ) -> Result<String> {
        let mut form = format!("Action={action}&Version={version}");
        for (name, value) in fields {
            form.push_str(&format!("&{name}={}", encoded(value)));
        }
        let request =
            Request::post("/", form).header("content-type", "application/x-www-form-urlencoded");
        Ok(self.call(service, action, request)?.text())
    }

    fn call(&self, service: &str, action: &str, request: Request) -> Result<Response> {
        // The service and the region are read from here, as with a signature.
        let scope = format!("operator/20260101/{REGION}/{service}/aws4_request");
        let response = request
            .header(
                "authorization",
                format!("AWS4-HMAC-SHA256 Credential={scope}"),
            )
            .header("x-operator", OPERATOR)
            .send(self.address)
            .with_context(|| format!("moto: {action}"))?;
        if response.status != 200 {
            bail!("moto: {action}: {} {}", response.status, response.text());
        }
        Ok(response)
    }
}

fn document(statements: &Value) -> String {
    json!({ "Version": "2012-10-17", "Statement": statements }).to_string()
}

/// The text of the first element of that name.
fn element(xml: &str, name: &str) -> Result<String> {
    let found = xml
        .split_once(&format!("<{name}>"))
        .and_then(|(_, rest)| rest.split_once(&format!("</{name}>")));
    let (text, _) = found.with_context(|| format!("no {name} in the answer"))?;
    Ok(text.to_owned())
}

fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let byte = |byte: u8| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}
