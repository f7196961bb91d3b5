//! Credentials: the providers that Confluent's sinks name by Java classes, Kerberos, and Azure's tokens.

use super::Service;
use crate::config::problem;
use crate::connect::translate::Work;

const S3_PROVIDER: &str = "s3.credentials.provider.class";
const GCS_PROVIDER: &str = "gcs.credentials.provider.class";

/// Simple names of providers of Amazon's libraries, versions 1 and 2, that only look where we look too.
const OF_THE_CHAIN: &[&str] = &[
    "DefaultAWSCredentialsProviderChain",
    "DefaultCredentialsProvider",
    "EnvironmentVariableCredentialsProvider",
    "WebIdentityTokenCredentialsProvider",
    "WebIdentityTokenFileCredentialsProvider",
    "InstanceProfileCredentialsProvider",
    "EC2ContainerCredentialsProviderWrapper",
    "ContainerCredentialsProvider",
];
const PROFILES: &[&str] = &["ProfileCredentialsProvider"];
const STATIC: &[&str] = &[
    "AWSStaticCredentialsProvider",
    "StaticCredentialsProvider",
    "BasicAWSCredentialsProvider",
];
const NOBODY: &[&str] = &[
    "AnonymousCredentialsProvider",
    "AnonymousAWSCredentialsProvider",
];
const ASSUMED: &[&str] = &[
    "AwsAssumeRoleCredentialsProvider",
    "STSAssumeRoleSessionCredentialsProvider",
    "StsAssumeRoleCredentialsProvider",
];

pub(super) fn translate(work: &mut Work<'_>, service: Service, applies: bool) {
    match service {
        Service::S3 => s3(work, applies),
        Service::Gcs => gcs(work, applies),
        Service::Gen2 => token(work, applies),
        Service::Hdfs2 | Service::Hdfs3 => kerberos(work, applies),
        Service::Blob | Service::Gen1 => {}
    }
}

fn simple(class: &str) -> &str {
    class.rsplit(['.', '$']).next().unwrap_or(class)
}

fn s3(work: &mut Work<'_>, applies: bool) {
    let mine = format!("{}.", S3_PROVIDER.trim_end_matches(".class"));
    let of_provider: Vec<String> = work.below(&mine);
    for key in &of_provider {
        work.used(&format!("{mine}{key}"));
    }
    let Some(class) = work.get(S3_PROVIDER) else {
        return;
    };
    if !applies {
        return work.note(S3_PROVIDER, super::ELSEWHERE);
    }
    match simple(&class) {
        name if OF_THE_CHAIN.contains(&name) => work.note(S3_PROVIDER, "credentials are taken from the first of these that has some: the keys of this config, the environment, the profile files, web identity, the container, the instance"),
        name if STATIC.contains(&name) => {}
        name if PROFILES.contains(&name) => work.put("sink.store.profile", "default", S3_PROVIDER),
        name if NOBODY.contains(&name) => work.put("sink.store.anonymous", "true", S3_PROVIDER),
        name if ASSUMED.contains(&name) => work.refuse(
            S3_PROVIDER,
            format!("`{name}` asks STS for a role, and no role is assumed here"),
            "give the process the role itself: of the instance or container, or by web identity (AWS_ROLE_ARN and AWS_WEB_IDENTITY_TOKEN_FILE)",
        ),
        name => work.refuse(
            S3_PROVIDER,
            format!("`{name}` is a Java class that cannot be loaded"),
            "take the key out: the environment, profile files, web identity, the container and the instance are asked, or write sink.store.access.key.id and sink.store.secret.access.key",
        ),
    }
}

fn gcs(work: &mut Work<'_>, applies: bool) {
    const JSON: &str = "gcs.credentials.json";
    if work.typed(JSON).is_some() {
        work.refuse(
            JSON,
            "credentials are read from a file, never from a config",
            "write them into a file that only this user may read, and name it in gcs.credentials.path",
        );
    }
    let Some(class) = work.get(GCS_PROVIDER) else {
        return;
    };
    if !applies {
        return work.note(GCS_PROVIDER, super::ELSEWHERE);
    }
    let name = simple(&class).to_owned();
    match name.as_str() {
        "GoogleCredentialsProvider" => {}
        _ => work.refuse(
            GCS_PROVIDER,
            format!("`{name}` is a Java class that cannot be loaded"),
            "take the key out: gcs.credentials.path, GOOGLE_APPLICATION_CREDENTIALS, gcloud's own file and the instance are asked",
        ),
    }
}

/// `https://login.microsoftonline.com/<tenant>/oauth2/token`
fn token(work: &mut Work<'_>, applies: bool) {
    const KEY: &str = "azure.datalake.gen2.token.endpoint";
    const OURS: &str = "sink.store.tenant.id";
    let Some(endpoint) = work.get(KEY) else {
        if applies && work.is_there("azure.datalake.gen2.client.id") && !work.has(OURS) {
            let message = format!("`{KEY}` is missing: a client id has a tenant");
            work.problem(KEY, problem::MISSING, message).hint =
                Some("https://login.microsoftonline.com/TENANT/oauth2/token".to_owned());
        }
        return;
    };
    if !applies {
        return work.note(KEY, super::ELSEWHERE);
    }
    let tenant = endpoint
        .strip_prefix("https://login.microsoftonline.com/")
        .and_then(|rest| rest.split_once("/oauth2/"))
        .map(|(tenant, _)| tenant)
        .filter(|tenant| !tenant.is_empty() && !tenant.contains('/'));
    match tenant {
        Some(tenant) => work.put(OURS, tenant, KEY),
        None => work.refuse(
            KEY,
            format!("`{endpoint}` is no token endpoint that is asked here"),
            "https://login.microsoftonline.com/TENANT/oauth2/token, or sink.store.tenant.id and sink.store.client.id",
        ),
    }
}

fn kerberos(work: &mut Work<'_>, applies: bool) {
    const ON: &str = "hdfs.authentication.kerberos";
    const NAME_NODE: &str = "hdfs.namenode.principal";
    const PERIOD: &str = "kerberos.ticket.renew.period.ms";
    const OURS: [(&str, &str); 2] = [
        ("connect.hdfs.principal", "kerberos.principal"),
        ("connect.hdfs.keytab", "kerberos.keytab"),
    ];
    let on = work.flag(ON).unwrap_or(false);
    for (theirs, ours) in OURS {
        let given = work.typed(theirs);
        match (on && applies, given) {
            (true, Some(typed)) => work.put(&format!("sink.store.{ours}"), typed, theirs),
            (true, None) => {
                let message = format!("`{theirs}` is missing: `{ON}` is true");
                work.problem(theirs, problem::MISSING, message);
            }
            (false, Some(_)) if !applies => work.note(theirs, super::ELSEWHERE),
            (false, Some(_)) => {
                work.note(
                    theirs,
                    format!("no effect while `{ON}` is false, as in Connect"),
                );
            }
            (false, None) => {}
        }
    }
    if work.typed(NAME_NODE).is_some() {
        let why = match on && applies {
            true => "no effect: the name node says which service it is, and Kerberos proves it",
            false => "no effect without Kerberos, as in Connect",
        };
        work.note(NAME_NODE, why);
    }
    if let Some(period) = work.typed(PERIOD)
        && work
            .class
            .key(PERIOD)
            .and_then(|key| key.default.clone())
            .as_deref()
            != Some(period)
    {
        work.note(PERIOD, "no effect: the Kerberos library takes a new ticket from the keytab when the old one has run out");
    }
    if on && !applies {
        work.note(ON, super::ELSEWHERE);
    }
}
