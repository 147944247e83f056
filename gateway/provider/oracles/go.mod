module github.com/paybell/paybell/gateway/provider/oracles

go 1.26.0

require (
	github.com/paybell/paybell v0.0.0
	github.com/standard-webhooks/standard-webhooks/libraries v0.0.1
	github.com/stripe/stripe-go/v84 v84.4.1
)

require (
	filippo.io/edwards25519 v1.2.0 // indirect
	golang.org/x/text v0.43.0 // indirect
)

replace github.com/paybell/paybell => ../../..

ignore ./node_modules
