package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/centrifugal/centrifuge-go"
)

// A client is one client of the SDK; what the SDK reports becomes events.
type client struct {
	name string
	sdk  *centrifuge.Client

	mu            sync.Mutex
	subscriptions map[string]*centrifuge.Subscription
}

func newClient(r request) *client {
	c := &client{name: r.Client, subscriptions: map[string]*centrifuge.Subscription{}}
	config := centrifuge.Config{
		Token: r.Token,
		Proxy: func(*http.Request) (*url.URL, error) { return nil, nil },
		// The other SDKs' value: with the default of 1 s a busy machine would be an error that the edge did not make.
		HandshakeTimeout: 5 * time.Second,
	}
	if r.Tokens != nil {
		next := c.provider("token_wanted", "", r.Tokens)
		config.GetToken = func(centrifuge.ConnectionTokenEvent) (string, error) { return next() }
	}
	create := centrifuge.NewJsonClient
	if r.Format == "protobuf" {
		create = centrifuge.NewProtobufClient
	}
	c.sdk = create(r.URL, config)
	c.watch()
	return c
}

func (c *client) report(event string, fields object) {
	fields["client"], fields["event"] = c.name, event
	write(fields)
}

// provider hands out the given tokens one after the other and fails when there is none left, as a backend would. A token
// that is nil is a user who may not.
func (c *client) provider(kind, channel string, tokens []*string) func() (string, error) {
	var mu sync.Mutex
	left := tokens
	return func() (string, error) {
		mu.Lock()
		defer mu.Unlock()
		c.report(kind, object{"channel": channel, "left": len(left)})
		if len(left) == 0 {
			return "", errors.New("no token left")
		}
		token := left[0]
		left = left[1:]
		if token == nil {
			return "", centrifuge.ErrUnauthorized
		}
		return *token, nil
	}
}

func (c *client) watch() {
	c.sdk.OnConnecting(func(e centrifuge.ConnectingEvent) {
		c.report("connecting", object{"code": e.Code, "reason": e.Reason})
	})
	c.sdk.OnConnected(func(e centrifuge.ConnectedEvent) {
		c.report("connected", object{"connection": e.ClientID})
	})
	c.sdk.OnDisconnected(func(e centrifuge.DisconnectedEvent) {
		c.report("disconnected", object{"code": e.Code, "reason": e.Reason})
	})
	c.sdk.OnError(func(e centrifuge.ErrorEvent) {
		c.report("error", plainError(e.Error))
	})
	c.watchServerSubscriptions()
}

func (c *client) watchServerSubscriptions() {
	c.sdk.OnSubscribing(func(e centrifuge.ServerSubscribingEvent) {
		c.report("server_subscribing", object{"channel": e.Channel})
	})
	c.sdk.OnSubscribed(func(e centrifuge.ServerSubscribedEvent) {
		c.report("server_subscribed", object{"channel": e.Channel, "data": raw(e.Data)})
	})
	c.sdk.OnUnsubscribed(func(e centrifuge.ServerUnsubscribedEvent) {
		c.report("server_unsubscribed", object{"channel": e.Channel})
	})
	c.sdk.OnPublication(func(e centrifuge.ServerPublicationEvent) {
		c.report("server_publication", publication(e.Channel, e.Publication))
	})
}

func (c *client) watchSubscription(s *centrifuge.Subscription, quiet bool) {
	s.OnSubscribing(func(e centrifuge.SubscribingEvent) {
		c.report("subscribing", object{"channel": s.Channel, "code": e.Code, "reason": e.Reason})
	})
	s.OnSubscribed(func(centrifuge.SubscribedEvent) {
		c.report("subscribed", object{"channel": s.Channel})
	})
	s.OnUnsubscribed(func(e centrifuge.UnsubscribedEvent) {
		c.report("unsubscribed", object{"channel": s.Channel, "code": e.Code, "reason": e.Reason})
	})
	s.OnError(func(e centrifuge.SubscriptionErrorEvent) {
		fields := plainError(e.Error)
		fields["channel"] = s.Channel
		c.report("subscription_error", fields)
	})
	if quiet {
		return
	}
	s.OnPublication(func(e centrifuge.PublicationEvent) {
		c.report("publication", publication(s.Channel, e.Publication))
	})
}

func publication(channel string, p centrifuge.Publication) object {
	fields := object{"channel": channel, "data": raw(p.Data), "info": info(p.Info), "offset": p.Offset}
	if p.Tags != nil {
		fields["tags"] = p.Tags
	}
	return fields
}

func filter(tags map[string]string) *centrifuge.FilterNode {
	var nodes []*centrifuge.FilterNode
	for key, value := range tags {
		nodes = append(nodes, centrifuge.FilterEq(key, value))
	}
	return centrifuge.FilterAnd(nodes...)
}

func raw(data []byte) json.RawMessage {
	if len(data) == 0 {
		return nil
	}
	return data
}

func info(of *centrifuge.ClientInfo) object {
	if of == nil {
		return nil
	}
	return object{
		"user": of.User, "client": of.Client, "conn_info": raw(of.ConnInfo), "chan_info": raw(of.ChanInfo),
	}
}

func (c *client) operate(ctx context.Context, r request) (json.RawMessage, error) {
	switch r.Op {
	case "connect":
		return nil, c.connect()
	case "disconnect":
		return nil, c.sdk.Disconnect()
	case "subscribe":
		return nil, c.subscribe(r)
	case "unsubscribe":
		return nil, c.subscription(r.Channel).Unsubscribe()
	case "publish":
		_, err := c.sdk.Publish(ctx, r.Channel, r.Data)
		return nil, err
	case "rpc":
		result, err := c.sdk.RPC(ctx, r.Method, r.Data)
		return result.Data, err
	case "send":
		return nil, c.sdk.Send(ctx, r.Data)
	case "history":
		_, err := c.sdk.History(ctx, r.Channel, centrifuge.WithHistoryLimit(1))
		return nil, err
	case "presence":
		_, err := c.sdk.Presence(ctx, r.Channel)
		return nil, err
	case "presence_stats":
		_, err := c.sdk.PresenceStats(ctx, r.Channel)
		return nil, err
	}
	return nil, errors.New("unknown operation: " + r.Op)
}

// connect begins to connect. The SDK also returns why a first attempt failed; the same comes as an event.
func (c *client) connect() error {
	_ = c.sdk.Connect()
	return nil
}

func (c *client) subscription(channel string) *centrifuge.Subscription {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.subscriptions[channel]
}

func (c *client) subscribe(r request) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.subscriptions[r.Channel]
	if s == nil {
		config := centrifuge.SubscriptionConfig{Token: r.Token}
		if r.Tags != nil {
			config.TagsFilter = filter(r.Tags)
		}
		if r.Delta {
			config.Delta = centrifuge.DeltaTypeFossil
		}
		if r.Tokens != nil {
			next := c.provider("subscription_token_wanted", r.Channel, r.Tokens)
			config.GetToken = func(centrifuge.SubscriptionTokenEvent) (string, error) { return next() }
		}
		created, err := c.sdk.NewSubscription(r.Channel, config)
		if err != nil {
			return err
		}
		s = created
		c.subscriptions[r.Channel] = s
		c.watchSubscription(s, r.Quiet)
	}
	return s.Subscribe()
}
