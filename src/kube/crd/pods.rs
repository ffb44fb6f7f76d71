//! Settings of a pod that the user may choose. Smaller than Kubernetes' own types, whose descriptions alone
//! would exceed the rest of the schema.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// Pattern of a Kubernetes quantity, such as 10m or 24Mi.
const QUANTITY_PATTERN: &str = r"^\+?([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$";

/// Requests and limits of a container.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Resources {
    /// Reserved amounts; cpu 10m and memory 24Mi by default.
    #[serde(default, deserialize_with = "amounts")]
    #[schemars(schema_with = "quantities")]
    pub requests: BTreeMap<String, IntOrString>,

    /// Amounts that must not be exceeded; memory 128Mi by default.
    #[serde(default, deserialize_with = "amounts")]
    #[schemars(schema_with = "quantities")]
    pub limits: BTreeMap<String, IntOrString>,
}

/// A taint that the pods tolerate.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.operator == 'Exists' ? self.value == '' : self.key != ''")
    .message("a toleration with operator Exists has no value, and one with Equal has a key"))]
pub struct Toleration {
    /// Key of the taint; empty for all taints.
    #[serde(default)]
    #[schemars(length(max = 317))]
    pub key: String,

    /// Comparison of the taint's value; Equal by default.
    #[serde(default)]
    pub operator: TolerationOperator,

    /// Value of the taint.
    #[serde(default)]
    #[schemars(length(max = 63))]
    pub value: String,

    /// Effect of the taint; empty for all effects.
    #[serde(default)]
    pub effect: TaintEffect,

    /// Seconds for which a `NoExecute` taint is tolerated; without a limit if not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub toleration_seconds: Option<i64>,
}

/// Comparison of a taint's value.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TolerationOperator {
    /// The values must be equal.
    #[default]
    Equal,
    /// Any value matches.
    Exists,
}

/// Effect of a taint.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaintEffect {
    /// All effects.
    #[default]
    #[serde(rename = "")]
    Any,
    /// Keeps new pods away.
    NoSchedule,
    /// Keeps new pods away if possible.
    PreferNoSchedule,
    /// Evicts pods.
    NoExecute,
}

/// Reads quantities. An integer of more than 31 bits, which the schema allows, is kept as text, since
/// Kubernetes accepts either form.
fn amounts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, IntOrString>, D::Error> {
    let amounts = BTreeMap::<String, Value>::deserialize(deserializer)?;
    let amount = |(name, value): (String, Value)| {
        let amount = match value {
            Value::String(text) => IntOrString::String(text),
            Value::Number(number) => match number.as_i64().and_then(|number| number.try_into().ok()) {
                Some(number) => IntOrString::Int(number),
                None => IntOrString::String(number.to_string()),
            },
            other => return Err(D::Error::custom(format!("{name} is {other}, which is not a quantity"))),
        };
        Ok((name, amount))
    };
    let mut read = BTreeMap::new();
    for entry in amounts {
        let (name, amount) = amount(entry)?;
        read.insert(name, amount);
    }
    Ok(read)
}

fn quantities(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "default": {},
        "additionalProperties": {
            "x-kubernetes-int-or-string": true,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "maxLength": 32,
            "pattern": QUANTITY_PATTERN,
        },
    })
}
