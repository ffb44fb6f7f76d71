//! Clients from options.

use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use reqwest::Url;

use super::Azure;
use super::delegation::Delegation;
use super::sign::SigningKey;
use crate::credentials::Credentials;
use crate::transport::{Connector, Transport, retries};
use crate::{AzureCredentials, AzureOptions, HttpClients, InvalidStore, RootPrefix};

/// Domain after `blob.` of Azure's public cloud.
const REALM: &str = "core.windows.net";

impl Azure {
    /// Creates the client of a container. Sends nothing.
    pub fn new(
        options: &AzureOptions,
        root: &RootPrefix,
        clients: HttpClients,
    ) -> Result<Self, InvalidStore> {
        let builder = match &options.credentials {
            AzureCredentials::Environment => MicrosoftAzureBuilder::from_env(),
            AzureCredentials::SharedKey(key) => MicrosoftAzureBuilder::new().with_access_key(key.expose()),
            AzureCredentials::ClientSecret { tenant, client, secret } => {
                MicrosoftAzureBuilder::new().with_client_secret_authorization(client, secret.expose(), tenant)
            }
        };
        Self::with_builder(builder, options, root, clients)
    }

    /// Creates a client that has a token.
    #[cfg(test)]
    pub(crate) fn with_token(
        token: &str,
        options: &AzureOptions,
        root: &RootPrefix,
        clients: HttpClients,
    ) -> Result<Self, InvalidStore> {
        let builder = MicrosoftAzureBuilder::new().with_bearer_token_authorization(token);
        Self::with_builder(builder, options, root, clients)
    }

    fn with_builder(
        builder: MicrosoftAzureBuilder,
        options: &AzureOptions,
        root: &RootPrefix,
        clients: HttpClients,
    ) -> Result<Self, InvalidStore> {
        let url = url(options)?;
        let mut account_url = url.clone();
        let path = url.path().trim_end_matches('/');
        account_url.set_path(path.strip_suffix(&options.container[..]).unwrap_or(path));
        let builder = builder
            .with_account(&options.account)
            .with_container_name(&options.container)
            .with_endpoint(account_url.as_str().trim_end_matches('/').to_owned())
            .with_allow_http(url.scheme() == "http")
            .with_retry(retries())
            .with_http_connector(Connector(clients.credentials.clone()));
        let key = builder.get_config_value(&AzureConfigKey::AccessKey);
        let credentials = match options.credentials {
            AzureCredentials::SharedKey(_) => {
                let store = builder.build().map_err(InvalidStore::Credentials)?;
                Credentials::fixed(store.credentials().clone())
            }
            _ => Credentials::of_chain(move || Ok(builder.clone().build()?.credentials().clone()))
                .map_err(InvalidStore::Credentials)?,
        };
        let slash = if options.has_leading_slash { "/" } else { "" };
        Ok(Self {
            transport: Transport::new(clients.store),
            credentials,
            key: key.as_deref().and_then(SigningKey::of_base64),
            delegation: Delegation::default(),
            account: options.account.clone(),
            container: options.container.clone(),
            account_url,
            url,
            root: format!("{slash}{}", root.key_prefix()),
        })
    }
}

/// Returns the URL of a container, with a slash at its end.
fn url(options: &AzureOptions) -> Result<Url, InvalidStore> {
    let (account, container) = (&options.account, &options.container);
    let realm = options.realm.as_deref().unwrap_or(REALM);
    let is_name = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-$".contains(&b))
    };
    let endpoint = match &options.endpoint {
        Some(endpoint) => endpoint.to_string(),
        None => format!("https://{account}.blob.{realm}"),
    };
    let invalid = || InvalidStore::Url(container.clone());
    if !is_name(account) || !is_name(container) {
        return Err(invalid());
    }
    format!("{endpoint}/{container}/").parse().map_err(|_| invalid())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Endpoint;

    #[test]
    fn a_container_stands_beneath_its_account() {
        let options = AzureOptions { account: "a".into(), container: "c".into(), ..AzureOptions::default() };
        assert_eq!(url(&options).unwrap().as_str(), "https://a.blob.core.windows.net/c/");
        let china = AzureOptions { realm: Some("core.chinacloudapi.cn".into()), ..options.clone() };
        assert_eq!(url(&china).unwrap().as_str(), "https://a.blob.core.chinacloudapi.cn/c/");
        let emulator = Endpoint::with_path("http://127.0.0.1:10000/a", false).unwrap();
        let emulated = AzureOptions { endpoint: Some(emulator), ..options.clone() };
        assert_eq!(url(&emulated).unwrap().as_str(), "http://127.0.0.1:10000/a/c/");
        assert!(url(&AzureOptions { container: "c/d".into(), ..options }).is_err());
    }
}
