use super::*;

fn settings(vars: &[(&str, &str)]) -> Result<ProxySettings, ProxyFault> {
    ProxySettings::from_vars(|name| {
        vars.iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| (*value).to_owned())
    })
}

fn chosen(settings: &ProxySettings, url: &str) -> Option<String> {
    settings
        .for_url(&Url::parse(url).unwrap())
        .map(|proxy| proxy.to_string())
}

#[test]
fn the_scheme_of_the_target_chooses_the_proxy() {
    let both = settings(&[("HTTPS_PROXY", "http://s:1"), ("http_proxy", "p:2")]).unwrap();
    assert_eq!(
        chosen(&both, "https://example.com"),
        Some("http://s:1/".into())
    );
    assert_eq!(
        chosen(&both, "http://example.com"),
        Some("http://p:2/".into())
    );
    let one = settings(&[("HTTPS_PROXY", "http://s:1"), ("HTTP_PROXY", "")]).unwrap();
    assert_eq!(chosen(&one, "http://example.com"), None);
    assert_eq!(
        chosen(&ProxySettings::default(), "https://example.com"),
        None
    );
}

#[test]
fn upper_case_wins_over_lower_case() {
    let vars = [
        ("HTTPS_PROXY", "http://upper:1"),
        ("https_proxy", "http://lower:1"),
    ];
    let found = chosen(&settings(&vars).unwrap(), "https://example.com");
    assert_eq!(found, Some("http://upper:1/".into()));
}

#[test]
fn exceptions_are_names_suffixes_addresses_and_networks() {
    let cases = [
        ("example.com", "https://example.com", true),
        ("example.com", "https://EXAMPLE.com", true),
        ("example.com", "https://a.example.com", true),
        ("example.com", "https://notexample.com", false),
        (".example.com", "https://example.com", false),
        (".example.com", "https://a.example.com", true),
        ("*.example.com", "https://a.example.com", true),
        ("*.example.com", "https://example.com", false),
        ("example.com:8443", "https://example.com", false),
        ("example.com:8443", "https://example.com:8443", true),
        ("example.com:443", "https://example.com", true),
        ("*", "https://example.com", true),
        ("10.1.2.3", "https://10.1.2.3", true),
        ("10.1.2.3:80", "https://10.1.2.3", false),
        ("10.0.0.0/8", "https://10.200.0.1", true),
        ("10.0.0.0/8", "https://11.0.0.1", false),
        ("0.0.0.0/0", "https://11.0.0.1", true),
        ("0.0.0.0/0", "https://[2001:db8::1]", false),
        ("2001:db8::/32", "https://[2001:db8::1]", true),
        ("2001:db8::1", "https://[2001:db8::1]", true),
        ("[2001:db8::1]:443", "https://[2001:db8::1]", true),
        ("other, ,example.com", "https://example.com", true),
        ("10.0.0.0/99,nonsense:port", "https://10.0.0.1", false),
        ("", "http://localhost:3000", true),
        ("", "http://127.9.9.9:3000", true),
        ("", "http://[::1]:3000", true),
        ("", "https://example.com", false),
    ];
    for (except, url, direct) in cases {
        let vars = [
            ("HTTPS_PROXY", "http://p:1"),
            ("HTTP_PROXY", "http://p:1"),
            ("NO_PROXY", except),
        ];
        let found = chosen(&settings(&vars).unwrap(), url);
        assert_eq!(found.is_none(), direct, "NO_PROXY={except:?} {url}");
    }
}

#[test]
fn an_unusable_proxy_is_named_without_its_value() {
    for value in [
        "socks5://user:hunter2@p:1",
        "http://user:hunter2@:9",
        "http://p:hunter2",
    ] {
        let fault = settings(&[("HTTPS_PROXY", value)]).unwrap_err().to_string();
        assert!(
            fault.starts_with("HTTPS_PROXY: expected http://host:port"),
            "{fault}"
        );
        assert!(!fault.contains("hunter2"), "{fault}");
    }
}

#[test]
fn credentials_are_not_shown() {
    let settings = settings(&[("HTTPS_PROXY", "http://user:hunter2@p:1")]).unwrap();
    let shown = format!("{settings:?}");
    assert!(
        shown.contains("http://p") && !shown.contains("hunter2"),
        "{shown}"
    );
}
