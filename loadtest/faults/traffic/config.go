package traffic

// Config is the part of paybell's configuration that the traffic needs. The secrets
// come from the environment: FAULTS_STRIPE and FAULTS_STANDARD. A point is worth a
// dollar. The group points, where orders are poisoned, gives them up soon.
const Config = `
accounts:
  stripe:
    provider: stripe
    namespace: shop
    options:
      secrets: [{env: FAULTS_STRIPE}]
      order_ref: [/data/object/metadata/order_id]
      customer_ref: /data/object/metadata/customer_id
  standard:
    provider: standardwebhooks
    namespace: shop
    options:
      secrets: [{env: FAULTS_STANDARD}]
groups:
  orderstatus: {worker: {park_after: 1s}}
  eventlog: {worker: {park_after: 1s}}
  points:
    worker: {park_after: 1s, timeout: 2s, backoff: {max: 1s}}
    award:
      rules: {USD: {points: 1, per: "1.00"}}
`
