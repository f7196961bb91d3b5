//! The services: makes a client of S3, Google Cloud Storage or Azure from a location and from what this machine has.

use std::sync::Arc;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsCredential};
use object_store::azure::{AzureConfigKey, AzureCredential, MicrosoftAzureBuilder};
use object_store::gcp::{GcpCredential, GoogleCloudStorageBuilder};
use object_store::multipart::MultipartStore;
use object_store::{ClientOptions, ObjectStore, RetryConfig, StaticCredentialProvider};

use super::connect::{self, Connector, Proxies, Watch};
use super::credentials::{self, Kept, Keys, Named, Provider};
use super::crypto::OpenSsl;
use crate::config::text::machine;
use crate::config::{Location, Options, Sse, System, Text};
use crate::error::{Error, Kind, Result};

/// The region if no config names one.
const REGION: &str = "us-east-1";

/// One service's client: objects, and the parts of uploads.
#[derive(Clone)]
pub(super) struct Client {
    pub objects: Arc<dyn ObjectStore>,
    pub parts: Arc<dyn MultipartStore>,
}

/// Two clients of one service: one tries a request again, the other sends it once.
pub(super) struct Service {
    pub retrying: Client,
    pub once: Client,
    pub watch: Arc<Watch>,
    /// What signs requests, in words.
    pub signer: String,
}

fn client<S: ObjectStore + MultipartStore>(store: S) -> Client {
    let store = Arc::new(store);
    Client {
        objects: store.clone(),
        parts: store,
    }
}

fn invalid(at: &Location, message: impl Into<String>) -> Error {
    Error::new(Kind::ConfigInvalid, "store.open", message).with("url", &at.url)
}

/// An error for what the library's builder refuses. Its message may name keys of the library, but never a secret value.
fn refused(at: &Location, error: &object_store::Error) -> Error {
    let said = super::answers::said(error);
    invalid(at, "a client of this store cannot be made")
        .hint("docs/stores.md has the keys of each service")
        .source(said)
}

pub(super) fn connect(at: &Location, system: System) -> Result<Service> {
    match system {
        System::Gcs => gcs(at),
        System::Azure => azure(at),
        _ => s3(at),
    }
}

/// What each client is made of.
struct Parts {
    connector: Connector,
    options: ClientOptions,
    /// For the client that retries, and for the one that sends once.
    retries: [RetryConfig; 2],
}

fn parts(options: &Options, endpoint: Option<&str>) -> Result<Parts> {
    let plain = endpoint.is_some_and(|url| url.starts_with("http://"));
    // An endpoint from the environment comes from the operator, so it needs no permission in the config.
    let allow_http = plain && (options.allow_http || options.endpoint.is_none());
    Ok(Parts {
        connector: Connector {
            watch: Arc::default(),
            proxies: Proxies::of(options)?,
        },
        options: connect::client(options, allow_http)?,
        retries: [
            connect::retries(options, options.retries),
            connect::retries(options, 0),
        ],
    })
}

impl Parts {
    fn watch(&self) -> &Arc<Watch> {
        &self.connector.watch
    }

    fn service(
        &self,
        signer: String,
        build: impl Fn(&RetryConfig) -> Result<Client>,
    ) -> Result<Service> {
        let [again, once] = &self.retries;
        Ok(Service {
            retrying: build(again)?,
            once: build(once)?,
            watch: Arc::clone(self.watch()),
            signer,
        })
    }
}

fn resolved(options: &Options, name: &str, text: &Text) -> Result<String> {
    let key = format!("{}{name}", options.keys);
    let value = text.resolve().map_err(|e| e.with("key", key))?;
    Ok(value.trim().to_owned())
}

// -------------------------------------------------------------------------- S3

type AwsProvider = Provider<AwsCredential>;

fn s3(at: &Location) -> Result<Service> {
    let options = &at.options;
    let (bucket, _) = at.bucket();
    if bucket.ends_with("--x-s3") {
        return Err(invalid(at, "directory buckets of S3 Express are not supported")
            .hint("use a bucket of S3 Standard: the log needs a listing that is complete and names of uploads that stay"));
    }
    let profile_name = options
        .profile
        .clone()
        .or_else(|| machine("AWS_PROFILE"))
        .unwrap_or_else(|| "default".to_owned());
    let profile = credentials::profile(&profile_name);
    let variable = |names: &[&str]| names.iter().find_map(|name| machine(name));
    let endpoint = options
        .endpoint
        .clone()
        .or_else(|| variable(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]))
        .or_else(|| profile.get("endpoint_url").cloned());
    let region = options
        .region
        .clone()
        .or_else(|| variable(&["AWS_REGION", "AWS_DEFAULT_REGION"]))
        .or_else(|| profile.get("region").cloned())
        .unwrap_or_else(|| REGION.to_owned());
    let parts = parts(options, endpoint.as_deref())?;
    let base = || s3_builder(at, &region, endpoint.as_deref(), &parts);
    let (provider, signer) = aws_signer(at, &profile_name, &profile, base, parts.watch())?;
    let build = |retry: &RetryConfig| {
        let mut builder = base().with_retry(retry.clone());
        if let Some(provider) = &provider {
            builder = builder.with_credentials(provider.clone());
        }
        builder.build().map(client).map_err(|e| refused(at, &e))
    };
    parts.service(signer, build)
}

fn s3_builder(
    at: &Location,
    region: &str,
    endpoint: Option<&str>,
    parts: &Parts,
) -> AmazonS3Builder {
    let options = &at.options;
    let (bucket, _) = at.bucket();
    // The service's certificates do not cover a bucket name with dots.
    let by_default = endpoint.is_some() || bucket.contains('.');
    let path_style = options.path_style.unwrap_or(by_default);
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_region(region)
        .with_crypto_provider(Arc::new(OpenSsl))
        .with_http_connector(parts.connector.clone())
        .with_client_options(parts.options.clone())
        .with_disable_bulk_delete(true)
        .with_skip_signature(options.anonymous)
        .with_virtual_hosted_style_request(!path_style);
    if let Some(endpoint) = endpoint {
        builder = builder.with_endpoint(match path_style {
            true => endpoint.to_owned(),
            false => host_style(endpoint, bucket),
        });
    }
    let sse = || encryption("aws_server_side_encryption");
    match (options.sse, &options.sse_kms_key) {
        (Sse::None, _) => builder,
        (Sse::Aes256, _) => builder.with_config(sse(), "AES256"),
        (Sse::Kms, Some(key)) => builder.with_sse_kms_encryption(key),
        (Sse::Kms, None) => builder.with_config(sse(), "aws:kms"),
    }
}

/// `https://host` → `https://bucket.host`.
fn host_style(endpoint: &str, bucket: &str) -> String {
    match endpoint.split_once("://") {
        Some((scheme, host)) => format!("{scheme}://{bucket}.{host}"),
        None => endpoint.to_owned(),
    }
}

fn encryption(key: &str) -> AmazonS3ConfigKey {
    key.parse().unwrap_or(AmazonS3ConfigKey::Bucket)
}

/// Variables that make the library get credentials by itself: roles of tokens, containers and instances.
const AWS_VARIABLES: &[(&str, AmazonS3ConfigKey)] = &[
    (
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        AmazonS3ConfigKey::WebIdentityTokenFile,
    ),
    ("AWS_ROLE_ARN", AmazonS3ConfigKey::RoleArn),
    ("AWS_ROLE_SESSION_NAME", AmazonS3ConfigKey::RoleSessionName),
    ("AWS_ENDPOINT_URL_STS", AmazonS3ConfigKey::StsEndpoint),
    (
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        AmazonS3ConfigKey::ContainerCredentialsRelativeUri,
    ),
    (
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        AmazonS3ConfigKey::ContainerCredentialsFullUri,
    ),
    (
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        AmazonS3ConfigKey::ContainerAuthorizationTokenFile,
    ),
    (
        "AWS_EC2_METADATA_SERVICE_ENDPOINT",
        AmazonS3ConfigKey::MetadataEndpoint,
    ),
];

/// Looks in the order of AWS's own tools: keys, environment, web identity, profile, container, instance.
fn aws_signer(
    at: &Location,
    profile_name: &str,
    profile: &std::collections::BTreeMap<String, String>,
    base: impl Fn() -> AmazonS3Builder,
    watch: &Arc<Watch>,
) -> Result<(Option<AwsProvider>, String)> {
    let options = &at.options;
    if options.anonymous {
        return Ok((None, "nobody (requests are not signed)".to_owned()));
    }
    if let (Some(id), Some(secret)) = (&options.access_key_id, &options.secret_access_key) {
        let keys: AwsProvider = Keys::typed(id, secret, options.session_token.as_ref(), watch);
        return Ok((
            Some(keys),
            format!("{}access.key.id and its secret", options.keys),
        ));
    }
    let set = |name: &str| machine(name).is_some();
    if options.profile.is_none() && set("AWS_ACCESS_KEY_ID") && set("AWS_SECRET_ACCESS_KEY") {
        let of = |name: &str| Text::new(format!("${{env:{name}}}"));
        let token = set("AWS_SESSION_TOKEN").then(|| of("AWS_SESSION_TOKEN"));
        let (id, secret) = (of("AWS_ACCESS_KEY_ID"), of("AWS_SECRET_ACCESS_KEY"));
        let keys: AwsProvider = Keys::typed(&id, &secret, token.as_ref(), watch);
        return Ok((
            Some(keys),
            "the variable AWS_ACCESS_KEY_ID and its secret".to_owned(),
        ));
    }
    let web =
        options.profile.is_none() && set("AWS_WEB_IDENTITY_TOKEN_FILE") && set("AWS_ROLE_ARN");
    if !web && (options.profile.is_some() || credentials::signs(profile)) {
        let keys: AwsProvider = Keys::profile(profile_name, watch);
        return Ok((Some(keys), format!("the profile {profile_name}")));
    }
    let mut builder = base();
    for (name, key) in AWS_VARIABLES {
        if let Some(value) = machine(name) {
            builder = builder.with_config(*key, value);
        }
    }
    let location = at.clone();
    let make = move || -> Result<AwsProvider> {
        let built = builder.clone().build();
        let built = built.map_err(|e| refused(&location, &e))?;
        Ok(Arc::clone(built.credentials()))
    };
    let looked = match web {
        true => "the role of AWS_WEB_IDENTITY_TOKEN_FILE",
        false => "the environment, ~/.aws, and the role of this container or machine",
    };
    let named: AwsProvider = Named::new(Kept::Tokens, make, watch, looked)?;
    Ok((Some(named), looked.to_owned()))
}

// ------------------------------------------------------------------------- GCS

/// Where the tools of Google look for a file of credentials.
const GOOGLE_FILE: &str = "GOOGLE_APPLICATION_CREDENTIALS";

fn gcs(at: &Location) -> Result<Service> {
    let options = &at.options;
    let parts = parts(options, options.endpoint.as_deref())?;
    let signer = match &options.credentials_file {
        Some(_) => format!("{}credentials.file", options.keys),
        None => match machine(GOOGLE_FILE) {
            Some(_) => format!("the file of {GOOGLE_FILE}"),
            None => "the login of gcloud, or the service account of this machine".to_owned(),
        },
    };
    let base = {
        let (at, connector) = (at.clone(), parts.connector.clone());
        let client_options = parts.options.clone();
        move || gcs_builder(&at, &connector, &client_options)
    };
    let provider: Provider<GcpCredential> = match options.anonymous {
        true => Arc::new(StaticCredentialProvider::new(GcpCredential {
            bearer: String::new(),
        })),
        false => {
            let (location, base) = (at.clone(), base.clone());
            let make = move || -> Result<Provider<GcpCredential>> {
                let built = base()?.build().map_err(|e| refused(&location, &e))?;
                Ok(Arc::clone(built.credentials()))
            };
            Named::new(Kept::Tokens, make, parts.watch(), signer.clone())?
        }
    };
    let build = |retry: &RetryConfig| {
        let builder = base()?
            .with_retry(retry.clone())
            .with_credentials(provider.clone());
        builder.build().map(client).map_err(|e| refused(at, &e))
    };
    parts.service(signer, build)
}

/// Resolves the references of the config's credentials.
fn gcs_builder(
    at: &Location,
    connector: &Connector,
    client_options: &ClientOptions,
) -> Result<GoogleCloudStorageBuilder> {
    let options = &at.options;
    let (bucket, _) = at.bucket();
    let mut builder = GoogleCloudStorageBuilder::new()
        .with_bucket_name(bucket)
        .with_crypto_provider(Arc::new(OpenSsl))
        .with_http_connector(connector.clone())
        .with_client_options(client_options.clone())
        .with_skip_signature(options.anonymous);
    if let Some(endpoint) = &options.endpoint {
        builder = builder.with_base_url(endpoint);
    }
    let file = match &options.credentials_file {
        Some(text) => Some(resolved(options, "credentials.file", text)?),
        None => machine(GOOGLE_FILE),
    };
    Ok(match file {
        Some(file) => builder.with_application_credentials(file),
        None => builder,
    })
}

// ----------------------------------------------------------------------- Azure

fn azure(at: &Location) -> Result<Service> {
    let options = &at.options;
    let (authority, _) = at.bucket();
    let (container, host) = match authority.split_once('@') {
        Some((container, host)) => (container, Some(host)),
        None => (authority, None),
    };
    let of_host = host
        .and_then(|host| host.split('.').next())
        .map(str::to_owned);
    let account = of_host
        .or_else(|| options.account_name.clone())
        .or_else(|| machine("AZURE_STORAGE_ACCOUNT_NAME"))
        .or_else(|| machine("AZURE_STORAGE_ACCOUNT"));
    let Some(account) = account else {
        let hint = format!(
            "set {}account.name, or write abfss://{container}@ACCOUNT.dfs.core.windows.net/…",
            options.keys
        );
        return Err(invalid(at, "nothing names the storage account").hint(hint));
    };
    let endpoint = match (&options.endpoint, host) {
        (Some(endpoint), _) => Some(endpoint.clone()),
        (None, Some(host)) => Some(format!("https://{}", host.replacen(".dfs.", ".blob.", 1))),
        (None, None) => None,
    };
    let parts = parts(options, endpoint.as_deref())?;
    let builder = {
        let mut builder = MicrosoftAzureBuilder::new()
            .with_container_name(container)
            .with_account(&account)
            .with_crypto_provider(Arc::new(OpenSsl))
            .with_http_connector(parts.connector.clone())
            .with_client_options(parts.options.clone())
            .with_skip_signature(options.anonymous);
        if let Some(endpoint) = &endpoint {
            builder = builder.with_endpoint(endpoint.clone());
        }
        builder
    };
    let (given, signer) = azure_signer(options)?;
    let location = at.clone();
    let base = builder.clone();
    let make = move || -> Result<Provider<AzureCredential>> {
        let (given, _) = azure_signer(&location.options)?;
        let mut builder = base.clone();
        for (key, value) in given {
            builder = builder.with_config(key, value);
        }
        let built = builder.build().map_err(|e| refused(&location, &e))?;
        Ok(Arc::clone(built.credentials()))
    };
    let provider = Named::new(azure_kept(&given), make, parts.watch(), signer.clone())?;
    let build = |retry: &RetryConfig| {
        let builder = builder
            .clone()
            .with_retry(retry.clone())
            .with_credentials(provider.clone());
        builder.build().map(client).map_err(|e| refused(at, &e))
    };
    parts.service(signer, build)
}

/// A key of the account and a shared access signature sign requests themselves; the others stand for tokens.
fn azure_kept(given: &Given) -> Kept {
    let signs = |(key, _): &(AzureConfigKey, _)| {
        matches!(key, AzureConfigKey::AccessKey | AzureConfigKey::SasKey)
    };
    match given.iter().any(signs) {
        true => Kept::Itself,
        false => Kept::Tokens,
    }
}

type Given = Vec<(AzureConfigKey, String)>;

/// Variables that together give credentials, in the order of Azure's own tools.
const AZURE_WAYS: &[(&[(&str, AzureConfigKey)], &str)] = &[
    (
        &[("AZURE_STORAGE_ACCOUNT_KEY", AzureConfigKey::AccessKey)],
        "AZURE_STORAGE_ACCOUNT_KEY",
    ),
    (
        &[("AZURE_STORAGE_SAS_TOKEN", AzureConfigKey::SasKey)],
        "AZURE_STORAGE_SAS_TOKEN",
    ),
    (
        &[
            ("AZURE_CLIENT_ID", AzureConfigKey::ClientId),
            ("AZURE_CLIENT_SECRET", AzureConfigKey::ClientSecret),
            ("AZURE_TENANT_ID", AzureConfigKey::AuthorityId),
        ],
        "the service principal of AZURE_CLIENT_SECRET",
    ),
    (
        &[
            ("AZURE_CLIENT_ID", AzureConfigKey::ClientId),
            (
                "AZURE_FEDERATED_TOKEN_FILE",
                AzureConfigKey::FederatedTokenFile,
            ),
            ("AZURE_TENANT_ID", AzureConfigKey::AuthorityId),
        ],
        "the workload identity of AZURE_FEDERATED_TOKEN_FILE",
    ),
];

/// Credentials from the config.
fn azure_own(options: &Options) -> Result<Option<(Given, String)>> {
    let keys = options.keys;
    let named = |name: &str| format!("{keys}{name}");
    if options.anonymous {
        return Ok(Some((
            Vec::new(),
            "nobody (requests are not signed)".to_owned(),
        )));
    }
    if let Some(key) = &options.account_key {
        let value = resolved(options, "account.key", key)?;
        return Ok(Some((
            vec![(AzureConfigKey::AccessKey, value)],
            named("account.key"),
        )));
    }
    if let Some(token) = &options.sas_token {
        let value = resolved(options, "sas.token", token)?;
        let value = value.trim_start_matches('?').to_owned();
        return Ok(Some((
            vec![(AzureConfigKey::SasKey, value)],
            named("sas.token"),
        )));
    }
    if let (Some(id), Some(secret), Some(tenant)) = (
        &options.client_id,
        &options.client_secret,
        &options.tenant_id,
    ) {
        let given = vec![
            (AzureConfigKey::ClientId, id.clone()),
            (
                AzureConfigKey::ClientSecret,
                resolved(options, "client.secret", secret)?,
            ),
            (AzureConfigKey::AuthorityId, tenant.clone()),
        ];
        return Ok(Some((given, named("client.secret"))));
    }
    Ok(None)
}

/// Credentials from the config, or else in the order of Azure's tools: key or signature from the environment, service
/// principal, workload identity, the login of `az`, managed identity.
fn azure_signer(options: &Options) -> Result<(Given, String)> {
    if let Some(own) = azure_own(options)? {
        return Ok(own);
    }
    let from = |all: &[(&str, AzureConfigKey)]| -> Option<Given> {
        all.iter()
            .map(|(name, key)| Some((*key, machine(name)?)))
            .collect()
    };
    for (variables, signer) in AZURE_WAYS {
        if let Some(mut given) = from(variables) {
            if let Some(authority) = machine("AZURE_AUTHORITY_HOST") {
                given.push((AzureConfigKey::AuthorityHost, authority));
            }
            return Ok((given, (*signer).to_owned()));
        }
    }
    let login =
        machine("HOME").map(|home| std::path::Path::new(&home).join(".azure/azureProfile.json"));
    let on_a_service = machine("IDENTITY_ENDPOINT").is_some() || options.client_id.is_some();
    if login.is_some_and(|file| file.is_file()) && !on_a_service {
        let given = vec![(AzureConfigKey::UseAzureCli, "true".to_owned())];
        return Ok((given, "the login of the az command".to_owned()));
    }
    let mut given = Vec::new();
    given.extend(
        options
            .client_id
            .clone()
            .map(|id| (AzureConfigKey::ClientId, id)),
    );
    given.extend(machine("IDENTITY_ENDPOINT").map(|url| (AzureConfigKey::MsiEndpoint, url)));
    Ok((
        given,
        "the environment, the az command and the managed identity of this machine".to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buckets_name_stands_before_the_host() {
        assert_eq!(host_style("https://s3.x:9000", "b"), "https://b.s3.x:9000");
        assert!(matches!(
            encryption("aws_server_side_encryption"),
            AmazonS3ConfigKey::Encryption(_)
        ));
    }

    #[test]
    fn directory_buckets_are_refused_by_name() {
        let refused = connect(&Location::of("s3://lake--usw2-az1--x-s3/raw"), System::S3);
        let refused = refused.err().unwrap();
        assert_eq!(refused.kind(), Kind::ConfigInvalid);
        assert!(refused.to_string().contains("S3 Express"), "{refused}");
    }

    #[test]
    fn the_configs_own_come_first() {
        let options = Options {
            sas_token: Some(Text::new("?sv=1&sig=x")),
            ..Options::default()
        };
        let (given, signer) = azure_signer(&options).unwrap();
        assert_eq!(given[0].1, "sv=1&sig=x");
        assert_eq!(azure_kept(&given), Kept::Itself);
        assert_eq!(signer, "sink.store.sas.token");
    }
}
