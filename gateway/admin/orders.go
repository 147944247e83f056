package admin

import (
	"context"
	"net/http"

	"github.com/gin-gonic/gin"
)

// defaultLimit is how many rows a list has when nobody says.
const defaultLimit = 50

// orderList is the answer to /api/v1/orders.
type orderList struct {
	Orders []Order `json:"orders"`
}

// OrderDetail is the answer to /api/v1/orders/{namespace}/{order_ref}.
type OrderDetail struct {
	Order
	History []OrderChange `json:"history"`
	Ledger  []PointsEntry `json:"ledger"`
}

func (a *Admin) listOrders(c *gin.Context) {
	q := newQuery(c)
	want := OrderQuery{
		Namespace: q.text("namespace", "Namespace"),
		Ref:       q.text("ref", "Ref"),
		Limit:     q.number("limit", "Limit", defaultLimit),
	}
	if !q.check(c, a.validate, want) {
		return
	}
	if a.deps.Orders == nil {
		notHere(c, "orders")
		return
	}
	orders, err := a.orders(c.Request.Context(), want)
	if err != nil {
		a.trouble(c, err)
		return
	}
	respond(c, http.StatusOK, orderList{orders})
}

func (a *Admin) showOrder(c *gin.Context) {
	if !newQuery(c).check(c, a.validate, struct{}{}) {
		return
	}
	if a.deps.Orders == nil {
		notHere(c, "orders")
		return
	}
	ctx := c.Request.Context()
	key := OrderKey{Namespace: pathParam(c, "namespace"), Ref: pathParam(c, "ref")}
	order, history, err := a.deps.Orders.Show(ctx, key)
	if err != nil {
		a.trouble(c, err)
		return
	}
	detail := OrderDetail{Order: order, History: history, Ledger: []PointsEntry{}}
	if detail.History == nil {
		detail.History = []OrderChange{}
	}
	if a.deps.Points != nil {
		entries, err := a.deps.Points.Ledger(ctx, key)
		if err != nil {
			a.trouble(c, err)
			return
		}
		detail.Ledger = append(detail.Ledger, entries...)
		sum := int64(0)
		for _, e := range entries {
			sum += e.Points
		}
		detail.Points = &sum
	}
	respond(c, http.StatusOK, detail)
}

// orders finds orders and what they are worth.
func (a *Admin) orders(ctx context.Context, q OrderQuery) ([]Order, error) {
	orders, err := a.deps.Orders.Find(ctx, q)
	if err != nil {
		return nil, err
	}
	if orders == nil {
		orders = []Order{}
	}
	if a.deps.Points == nil || len(orders) == 0 {
		return orders, nil
	}
	keys := make([]OrderKey, len(orders))
	for i := range orders {
		keys[i] = OrderKey{orders[i].Namespace, orders[i].Ref}
	}
	points, err := a.deps.Points.Balances(ctx, keys)
	if err != nil {
		return nil, err
	}
	for i := range orders {
		if balance, ok := points[keys[i]]; ok {
			orders[i].Points = &balance
		}
	}
	return orders, nil
}
