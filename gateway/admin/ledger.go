package admin

import (
	"log/slog"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/paybell/paybell/streams"
)

// AcknowledgeRequest ends the alarm of a group's account: an operator knows of it.
type AcknowledgeRequest struct {
	// Because is what was found or done; it is logged.
	Because string `json:"because" validate:"required,max=512"`
}

// Acknowledged is the answer.
type Acknowledged struct {
	// Acknowledged is what the alarm was about; nothing where there was none.
	Acknowledged streams.Alarm `json:"acknowledged"`
}

func (a *Admin) acknowledge(c *gin.Context) {
	var want AcknowledgeRequest
	if !a.order(c, &want) {
		return
	}
	if a.deps.Ledger == nil {
		notHere(c, "ledger")
		return
	}
	group := pathParam(c, "group")
	alarm, err := a.deps.Ledger.Acknowledge(c.Request.Context(), group)
	if err != nil {
		a.trouble(c, err)
		return
	}
	a.deps.Logger.LogAttrs(c.Request.Context(), slog.LevelInfo, "alarm of the ledger acknowledged by an operator",
		slog.String("group", group), slog.Int64("lost", alarm.Lost), slog.Int64("again", alarm.Again),
		slog.String("because", oneLine(want.Because)), slog.String("remote", c.Request.RemoteAddr))
	respond(c, http.StatusOK, Acknowledged{alarm})
}
