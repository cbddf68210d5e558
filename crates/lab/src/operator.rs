//! A small REST client: what an operator's program sends, and odd requests that none should.

use std::time::Duration;

use hoist_wire::rest::{ClientPage, Download, DownloadPage};
use hoist_wire::{DownloadId, State};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use reqwest::{Client, Method, RequestBuilder};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::contract::{self, Answer};
use crate::{WITHIN, eventually};

/// Longest time that an answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// Marks a request to a server of ours, whose answer is held against its OpenAPI document. It is not sent.
const OURS: &str = "lab-ours";

/// Someone who asks for files.
#[derive(Debug, Clone)]
pub struct Operator {
    base: String,
    token: Option<String>,
    http: Client,
}

/// What was answered.
#[derive(Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    headers: reqwest::header::HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

/// Makes a client that follows no redirects and uses no proxy.
///
/// # Panics
/// If HTTP cannot be set up.
pub fn http() -> Client {
    // Built together with the command line, reqwest can do TLS, and then makes no client without a provider, not even
    // for plain HTTP. Whoever came first has installed the same one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .no_proxy()
        // Whether a server shows the right certificate is for the programs to check, and for their tests.
        .tls_danger_accept_invalid_certs(true)
        .redirect(reqwest::redirect::Policy::none())
        .timeout(ANSWER_WITHIN)
        .build()
        .expect("an HTTP client")
}

impl Operator {
    /// Makes an operator of the server at `base`.
    pub fn new(base: String, token: Option<String>) -> Self {
        Self { base, token, http: http() }
    }

    /// Makes the same operator with another token, or with none.
    #[must_use]
    pub fn with_token(&self, token: Option<&str>) -> Self {
        Self { token: token.map(str::to_owned), ..self.clone() }
    }

    /// Begins a request; only the token is there.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base)).header(OURS, "1");
        match &self.token {
            Some(token) => request.header(AUTHORIZATION, format!("Bearer {token}")),
            None => request,
        }
    }

    /// Sends a request. One that gets no answer gives what went wrong.
    ///
    /// # Errors
    /// The text of the error, without the URL.
    ///
    /// # Panics
    /// If a server of ours answers what its OpenAPI document does not promise.
    pub async fn try_send(request: RequestBuilder) -> Result<Reply, String> {
        let (client, request) = request.build_split();
        let mut request = request.map_err(|error| format!("{:?}", error.without_url()))?;
        let is_ours = request.headers_mut().remove(OURS).is_some();
        let (method, path) = (request.method().clone(), request.url().path().to_owned());
        let reply = client.execute(request).await.map_err(|error| format!("{:?}", error.without_url()))?;
        let (status, headers) = (reply.status().as_u16(), reply.headers().clone());
        let body = reply.bytes().await.map_err(|error| format!("{:?}", error.without_url()))?.to_vec();
        if is_ours {
            let answer = Answer { status, headers: &headers, body: &body };
            if let Err(wrong) = contract::check(&method, &path, answer) {
                let body = String::from_utf8_lossy(&body);
                panic!("{method} {path} answers {status}, against docs/openapi.json: {wrong}\n{body}");
            }
        }
        Ok(Reply { status, headers, body })
    }

    /// Sends a request.
    ///
    /// # Panics
    /// If no answer comes.
    pub async fn send(request: RequestBuilder) -> Reply {
        Self::try_send(request).await.unwrap_or_else(|error| panic!("no answer: {error}"))
    }

    /// Gets a page.
    pub async fn get(&self, path: &str) -> Reply {
        Self::send(self.request(Method::GET, path)).await
    }

    /// Posts JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        let request = self.request(Method::POST, path).header(CONTENT_TYPE, "application/json");
        Self::send(request.body(body.to_string())).await
    }

    /// Changes with JSON.
    pub async fn patch(&self, path: &str, body: &Value) -> Reply {
        let request = self.request(Method::PATCH, path).header(CONTENT_TYPE, "application/json");
        Self::send(request.body(body.to_string())).await
    }

    /// Deletes.
    pub async fn delete(&self, path: &str) -> Reply {
        Self::send(self.request(Method::DELETE, path)).await
    }

    /// Asks for a file.
    ///
    /// # Panics
    /// If the request is not accepted.
    pub async fn ask(&self, client: &str, file_path: &str) -> Download {
        self.ask_with(client, &json!({"file_path": file_path})).await
    }

    /// Asks for a file with a body of one's own.
    ///
    /// # Panics
    /// If the request is not accepted.
    pub async fn ask_with(&self, client: &str, body: &Value) -> Download {
        let reply = self.post(&format!("/trigger-download/{client}"), body).await;
        assert_eq!(reply.status, 202, "{}", reply.text());
        let download: Download = reply.parse();
        assert_eq!(reply.header("location"), Some(format!("/downloads/{}", download.id).as_str()));
        download
    }

    /// Shows a download.
    ///
    /// # Panics
    /// If there is none.
    pub async fn show(&self, id: DownloadId) -> Download {
        let reply = self.get(&format!("/downloads/{id}")).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.parse()
    }

    /// Lists all downloads.
    ///
    /// # Panics
    /// If they are not listed, or are more than a page has.
    pub async fn downloads(&self) -> Vec<Download> {
        let page: DownloadPage = self.get("/downloads?limit=1000").await.parse();
        assert_eq!(page.next, None, "more downloads than one page shows");
        page.downloads
    }

    /// Waits until a download is as `is` wants it.
    pub async fn until(&self, id: DownloadId, what: &str, is: impl Fn(&Download) -> bool) -> Download {
        eventually(what, WITHIN, || async {
            let path = format!("/downloads/{id}");
            // The server may be down for the moment.
            let reply = Self::try_send(self.request(Method::GET, &path)).await?;
            let download: Download = reply.parse();
            if is(&download) { Ok(download) } else { Err(format!("{download:#?}")) }
        })
        .await
    }

    /// Waits until a download ends, and gives how.
    pub async fn ends(&self, id: DownloadId) -> Download {
        self.until(id, "the download to end", |download| download.state.is_final()).await
    }

    /// Waits until a download ends well.
    ///
    /// # Panics
    /// If it ends otherwise.
    pub async fn completes(&self, id: DownloadId) -> Download {
        let download = self.ends(id).await;
        assert_eq!(download.state, State::Completed, "{download:#?}");
        download
    }

    /// Waits until a download fails, and gives its code and message.
    ///
    /// # Panics
    /// If it ends otherwise.
    pub async fn fails(&self, id: DownloadId) -> (String, String) {
        let download = self.ends(id).await;
        assert_eq!(download.state, State::Failed, "{download:#?}");
        let error = download.error.expect("a failed download says why");
        (error.code.as_str(), error.message)
    }

    /// Waits until a client is connected, or is not.
    pub async fn sees(&self, client: &str, connected: bool) {
        let what = format!("{client} to be {}", if connected { "connected" } else { "gone" });
        eventually(&what, WITHIN, || async {
            let reply = Self::try_send(self.request(Method::GET, "/clients?limit=1000")).await?;
            let page: ClientPage = reply.parse();
            let found = page.clients.iter().find(|found| found.client_id.as_str() == client);
            let is = found.is_some_and(|found| found.connected);
            if is == connected { Ok(()) } else { Err(format!("{found:?}")) }
        })
        .await;
    }

    /// Fetches the file of a completed download as a browser does, and gives it with its `Content-Disposition`.
    ///
    /// # Panics
    /// If it is not there.
    pub async fn fetch(&self, id: DownloadId) -> (Vec<u8>, String) {
        let reply = self.get(&format!("/downloads/{id}/file")).await;
        assert_eq!(reply.status, 307, "{}", reply.text());
        let url = reply.header("location").expect("where the file is");
        // The token stays with the server: the bucket must not see it.
        let file = Self::send(self.http.get(url)).await;
        assert_eq!(file.status, 200, "{}", file.text());
        let disposition = file.header("content-disposition").unwrap_or_default().to_owned();
        (file.body, disposition)
    }
}

impl Reply {
    /// Gives a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Gives the body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Gives the body as JSON.
    ///
    /// # Panics
    /// If it is none.
    pub fn json(&self) -> Value {
        self.parse()
    }

    /// Reads the body.
    ///
    /// # Panics
    /// If it is something else.
    pub fn parse<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {}: {}", self.status, self.text()))
    }

    /// Checks that this is an error as RFC 9457 has it, and gives its code.
    ///
    /// # Panics
    /// If it is not, or says nothing.
    pub fn problem(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{}", self.text());
        let problem: hoist_wire::rest::Problem = self.parse();
        assert_eq!(problem.status, self.status, "{}", self.text());
        assert!(!problem.title.is_empty() && problem.detail.len() > 10, "{}", self.text());
        problem.code.as_str()
    }
}
