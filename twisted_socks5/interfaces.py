# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
What a plugin author implements, and what a plugin is handed.

Wherever a method's result is awaited, a coroutine, a
L{Deferred<twisted.internet.defer.Deferred>} or a plain value will do.  All
times are in seconds.  An exception that is no L{SOCKSError
<twisted_socks5.errors.SOCKSError>} is taken for a defect of the plugin: it is
logged with the plugin's name, and the session is closed.
"""

from __future__ import annotations

from collections.abc import (
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from typing import TYPE_CHECKING, Any, Protocol

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    import socket

    from OpenSSL.crypto import X509
    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IProtocol, IPushProducer, ITransport
    from twisted.internet.tcp import Connection

    from twisted_socks5.addresses import Address, IPAddress
    from twisted_socks5.authenticators import Authenticated, Identity
    from twisted_socks5.limits.bandwidth import Meters
    from twisted_socks5.limits.claims import Claim
    from twisted_socks5.limits.quotas import QuotaKey
    from twisted_socks5.policy import Decision
    from twisted_socks5.stream import ByteStream


class Check(Protocol):
    """
    Asks whether an address may be dialled, listened for or sent to.
    """

    def __call__(
        self, address: Address, asked: Address | None = None
    ) -> Awaitable[None]:
        """
        Ask.

        @param address: An IP address, never a name.
        @param asked: What the client has named, and what came to be that
            address: rules for names are asked with it.
        @raise ConnectionNotAllowed: It may not be used.
        """
        ...


# -- authentication (RFC 1928, section 3) -------------------------------------


class IConversation(Interface):
    """
    What both sides' authenticators talk by.
    """

    def readExactly(count: int) -> Awaitable[bytes]:
        """
        Read so many bytes.

        @return: The bytes, once they have all come.
        @raise StreamEnded: The peer closed before.
        """

    def readMessage(
        parse: Callable[[bytearray], tuple[Any, int] | None],
    ) -> Awaitable[Any]:
        """
        Read a message whose length its own bytes tell.

        @param parse: Given the bytes so far, returns the message and how many
            of them it took, or L{None} while there are too few, or raises
            L{MalformedMessage<twisted_socks5.errors.MalformedMessage>}.
        @return: The message.
        @raise StreamEnded: The peer closed before.
        """

    def write(data: bytes) -> None:
        """
        Send bytes to the peer.
        """


class IExchange(IConversation):
    """
    An authenticator's conversation with one client.
    """

    peer: Address = Attribute(
        "Where the client is; behind a PROXY header, what that says."
    )
    listener: Address = Attribute("The address of ours that the client connected to.")
    certificate: X509 | None = Attribute(
        "The client's TLS certificate, where it showed one that was verified."
    )

    def claim(name: bytes) -> Awaitable[None]:
        """
        Tell whom the client claims to be, once, before that is checked: so that
        guesses are slowed and then refused.  An
        L{AuthenticationFailed<twisted_socks5.errors.AuthenticationFailed>} that
        is raised afterwards counts as a failure of the client's address and of
        this name.

        @raise AuthenticationFailed: There have been too many.
        """


class IAuthenticator(Interface):
    """
    One authentication method.
    """

    method: int = Attribute("The METHOD octet, 00 to FE.")
    strength: int = Attribute(
        "The higher, the rather chosen among the methods that the client "
        "offers.  Ours: none 0, username 10, gssapi 20, certificate 40."
    )
    failureReply: bytes = Attribute(
        "What a client is sent last when L{authenticate} raises, or runs out "
        "of time while it is not the client's turn."
    )

    def isAvailable(exchange: IExchange) -> bool:
        """
        Whether this method can be used with this client at all, asked before
        it is chosen.  Nothing may be read or written yet.
        """

    def authenticate(
        exchange: IExchange,
    ) -> Awaitable[Authenticated] | Authenticated:
        """
        Hold the conversation that the method calls for, after the server has
        chosen it.

        @return: Who the client is.
        @raise AuthenticationFailed: The client is not let in.
        """


class IClientExchange(IConversation):
    """
    A client authenticator's conversation with one proxy.
    """

    proxy: str = Attribute("Where the proxy is, in words.")
    target: str = Attribute("What the proxy will be asked for, in words.")
    command: int = Attribute("The CMD octet that it will be asked with.")


class IClientAuthenticator(Interface):
    """
    One authentication method, on the client's side.
    """

    method: int = Attribute("The METHOD octet, 00 to FE.")

    def authenticate(
        exchange: IClientExchange,
    ) -> Awaitable[IStreamLayer | None]:
        """
        Hold the conversation that the method calls for, after the proxy has
        chosen it; nothing has been said in this method before.

        @return: What protects all that follows, if anything does.
        @raise AuthenticationFailed: The proxy does not let us in.
        """


class IStreamLayer(Interface):
    """
    Protection of everything after the authentication, such as GSSAPI's
    (RFC 1961): it slides under the conversation.
    """

    def wrap(data: bytes) -> bytes:
        """
        What goes on the wire for these bytes.
        """

    def unwrap(data: bytes) -> Iterator[bytes]:
        """
        What came of these bytes from the wire, which may begin and end
        anywhere.  Yields all that is good, then raises if something is not.
        """

    def eof() -> None:
        """
        No more bytes will come.

        @raise SOCKSError: They ended amid something.
        """

    def wrapDatagram(data: bytes) -> bytes:
        """
        What goes on the wire for one whole datagram, header included.

        @raise OSError: C{EMSGSIZE}: it is too long to be protected, and is to
            be dropped.
        """

    def unwrapDatagram(data: bytes) -> bytes:
        """
        The datagram, header included, that came of one from the wire.

        @raise SOCKSError: It is not good, and is to be dropped.
        """


# -- policy -------------------------------------------------------------------


class ISession(Interface):
    """
    The facts of one client's session, as far as they are known by now.
    """

    number: int = Attribute("Counts from 1 in each factory.")
    client: Address = Attribute("Where the client is.")
    listener: Address = Attribute("The address of ours that the client connected to.")
    identity: Identity | None = Attribute("Who it is, once authenticated.")
    state: str = Attribute(
        "One of the values of L{State<twisted_socks5.server.session.State>}."
    )
    command: int | None = Attribute("The CMD octet, once requested.")
    target: Address | None = Attribute("What was asked for, as normalised.")
    rawTarget: bytes = Attribute("DST.ADDR as it was sent.")
    dialled: Address | None = Attribute("The address that it came to be.")
    reply: int | None = Attribute("The REP octet that was sent.")
    decision: Decision | None = Attribute("What the policy said.")
    started: float = Attribute("When it was accepted, in seconds of the epoch.")
    seconds: float = Attribute("How long it has lasted.")
    bytesUp: int = Attribute("Payload bytes from the client.")
    bytesDown: int = Attribute("Payload bytes to the client.")
    traffic: ITraffic | None = Attribute("What it carries, once it does.")
    reason: str = Attribute("Why it ended; empty while it lives.")

    def end(reason: str) -> None:
        """
        End the session now, whatever it is doing.

        @param reason: Why, for the log.
        """


class IRequest(Interface):
    """
    What a client asks for (RFC 1928, section 4), for a policy to judge.
    """

    command: int = Attribute("The CMD octet.")
    destination: Address = Attribute(
        "DST.ADDR and DST.PORT, as normalised: an ATYP 03 that spells an IP "
        "is that IP; a name is in lower case, without its trailing dot."
    )
    raw: bytes = Attribute("DST.ADDR as it was sent, without ATYP and length.")
    client: Address = Attribute("Where the client is.")
    identity: Identity = Attribute("Who it is.")
    listener: Address = Attribute("The address of ours that the client connected to.")
    session: ISession = Attribute("The session that it is made in.")


class IConnectPolicy(Interface):
    """
    The ruleset of RFC 1928, section 6: who may go where.

    A policy that raises, that returns something else than a decision, or that
    takes longer than its deadline has denied.
    """

    def decide(request: IRequest) -> Awaitable[Decision] | Decision:
        """
        Judge a request as it was made, once, before any look-up.
        """

    def checkAddress(
        request: IRequest, address: Address
    ) -> Awaitable[Decision] | Decision:
        """
        Judge an address that the request comes down to: one that would be
        dialled, a BIND's peer, the destination of a datagram.  Only addresses
        that were allowed are used.

        @param request: For a datagram, its C{destination} is what the client
            has named in that.
        @param address: An IP address and a port.
        @return: To allow or to deny; never another route.
        """


class INamePolicy(IConnectPolicy):
    """
    A policy that judges names of datagrams' destinations too, not only the
    addresses that come of them.
    """

    def checkName(request: IRequest) -> Awaitable[Decision] | Decision:
        """
        Judge a name that a datagram is for, before it is looked up, here or at the
        other end of a route.

        @param request: Its C{destination} is the name.
        @return: To allow for now, or to deny.
        """


# -- routes -------------------------------------------------------------------


class IOutbound(Interface):
    """
    A connection to a destination that has accepted, and that nothing was read
    from yet.  Either L{attach} or L{detachSocket} takes it over, once.
    """

    local: Address = Attribute("Our end: the BND of the reply.")
    peer: Address | None = Attribute("The destination's end, where this host knows it.")

    def attach(protocol: IProtocol) -> ITransport:
        """
        Give the connection to a protocol, which is told by C{makeConnection}.
        """

    def detachSocket() -> socket.socket | None:
        """
        Give the bare, connected, non-blocking socket away, where there is one.
        """

    def abort() -> None:
        """
        Close a connection that nobody took over.
        """


class IWatchedOutbound(IOutbound):
    """
    A connection whose route wants to know how long it is used.
    """

    def ended() -> None:
        """
        What took the connection over has ended.  Called once.
        """


class IListening(Interface):
    """
    A port that waits for one peer to connect (BIND).
    """

    local: Address = Attribute(
        "Where the peer is to connect to.  An unspecified IP address stands for "
        "whichever address of this host the client may know."
    )

    def accept() -> Awaitable[IOutbound]:
        """
        Wait for the peer.  Then the port is closed, as it is when this is
        cancelled.
        """

    def close() -> None:
        """
        Close the port, if it is still open.
        """


class IDatagramReceiver(Interface):
    """
    Who gets what comes back to a UDP association.
    """

    def received(header: bytes, payload: bytes) -> None:
        """
        A datagram came.

        @param header: The header that tells the client where it came from
            (RFC 1928, section 7).
        """

    def dropped(reason: str) -> None:
        """
        A datagram came that is not for the client.

        @param reason: In a word, for the log.
        """

    def ended(reason: str) -> None:
        """
        The way out is no more, so the association ends, and its client is
        disconnected.

        @param reason: For the log.
        """


class IDatagrams(Interface):
    """
    A way out for the datagrams of one client (UDP ASSOCIATE).
    """

    ports: Collection[int] = Attribute(
        "The UDP ports of this host that it sends from now.  What comes from "
        "there comes from no client."
    )

    def start(receiver: IDatagramReceiver) -> None:
        """
        Say who gets what comes back.  Called once, before anything is sent.
        """

    def sender(
        destination: Address,
    ) -> Awaitable[Callable[[bytes], object]]:
        """
        Find the way to a destination.

        @return: What sends a payload there, or raises L{OSError} if it cannot
            be sent now.
        @raise ReplyError: Nothing can be sent there.
        """

    def close() -> None:
        """
        Close what was opened.
        """


class IRoute(Interface):
    """
    A way out to destinations.

    What a route cannot do raises
    L{CommandNotSupported<twisted_socks5.errors.CommandNotSupported>}.
    """

    resolvesNames: bool = Attribute(
        "Whether names are looked up on this host, so that addresses are "
        "judged here; else the far end of the route does."
    )

    def boundTo(address: IPAddress) -> IRoute:
        """
        The same route, going out from an address of this host.
        """

    def connect(target: Address, check: Check) -> Awaitable[IOutbound]:
        """
        Connect to a destination.

        @param check: Must be awaited for each address before it is dialled.
        @return: The connection, once the destination has accepted.
        @raise ReplyError: What to tell the client.
        """

    def listen(expected: Address, check: Check) -> Awaitable[IListening]:
        """
        Listen for one connection (BIND).

        @param expected: Who may connect, from any port: an IP address, or a name
            with any of its addresses; an unspecified IP address is anybody.
        @param check: Must be awaited for the address of a peer that has
            connected; one that is denied is closed, and waiting goes on.
        @raise ReplyError: What to tell the client.
        """

    def datagrams(check: Check) -> Awaitable[IDatagrams]:
        """
        Open a way for the datagrams of a client (UDP ASSOCIATE).

        @param check: Must be awaited for each address before anything is sent
            there.
        @raise ReplyError: What to tell the client.
        """


class IListenerRoute(IRoute):
    """
    A way out that may go by where a client has connected to.
    """

    def forListener(listener: Address) -> IRoute:
        """
        The way for one session.

        @param listener: The address of ours that its client has connected to; one
            without an IP address is a UNIX socket.
        """


# -- commands -----------------------------------------------------------------


class ICommandSession(ISession):
    """
    A session as the command that it runs sees it.
    """

    route: IRoute = Attribute("The way out that the policy decided for.")
    scope: int = Attribute(
        "The number of the network interface that the listener's address is of, if it "
        "is a link-local one, which means nothing without (RFC 4007); else 0."
    )
    layer: IStreamLayer | None = Attribute(
        "What protects the client's bytes and datagrams, if anything does."
    )
    traffic: ITraffic | None = Attribute(
        "What the session carries.  A command that carries something by other "
        "means than L{relay} says here where it is counted."
    )

    meters: Meters | None = Attribute(
        "What bounds the bytes that it carries, if anything does.  L{relay} keeps "
        "to it by itself."
    )

    def check(address: Address, asked: Address | None = None) -> Awaitable[None]:
        """
        Ask the policy about an address that this session's request comes down
        to; our own listeners are never allowed.

        @param asked: The name that it was found for, if it was one.
        @raise ConnectionNotAllowed: It is denied.
        """

    def checkName(name: Address) -> Awaitable[None]:
        """
        Ask the policy about a name that a datagram is for, before it is looked up.

        @raise ConnectionNotAllowed: It is denied.
        """

    def approve(outbound: IOutbound) -> Awaitable[None]:
        """
        Ask the policy once more about a connection that was made, if it has changed
        since it was asked; to be awaited before the client is told of success.

        @raise ConnectionNotAllowed: It is denied now; the connection is closed, as
            it is when this is cancelled.
        """

    def sendReply(reply: int, bound: Address | None = None) -> None:
        """
        Send a reply (RFC 1928, section 6).

        @param reply: The REP octet.
        @param bound: BND.ADDR and BND.PORT: an IP address.  Without it they
            are zeros.
        """

    def relay(outbound: IOutbound) -> None:
        """
        Join the client with a destination, both ways, until both have closed;
        what the client has sent meanwhile goes first.  The session ends when
        that ends, and C{run} may return.
        """

    def untilClosed() -> Awaitable[None]:
        """
        Wait for the client to close its connection, and drop what it sends
        meanwhile.  This never returns: when the client has closed, C{run} is
        cancelled, or L{StreamEnded<twisted_socks5.errors.StreamEnded>} is raised
        if it had closed already.
        """


class ICommand(Interface):
    """
    What a CMD octet does.
    """

    code: int = Attribute("The CMD octet.")

    def run(session: ICommandSession, request: IRequest) -> Awaitable[None]:
        """
        Do what the client requests, which the policy has allowed.

        It is cancelled when the client goes away; then it must undo whatever
        it had begun.  When it returns, the session ends, unless it was handed
        to L{relay<ICommandSession.relay>}.

        @raise ReplyError: What to tell the client; the session is then closed.
        """


# -- relay --------------------------------------------------------------------


class ITraffic(Interface):
    """
    What is carried for a client.
    """

    bytesUp: int = Attribute("Payload bytes from the client.")
    bytesDown: int = Attribute("Payload bytes to the client.")


class IDatagramTraffic(ITraffic):
    """
    What is carried for a client in datagrams.
    """

    datagramsUp: int = Attribute("Datagrams from the client.")
    datagramsDown: int = Attribute("Datagrams to the client.")
    drops: Mapping[str, int] = Attribute(
        "How many datagrams, of either side, were not passed on, by reason."
    )
    denial: str = Attribute(
        "Why the policy has denied a destination, the last time; else empty."
    )


class IRevisable(Interface):
    """
    What remembers that something was allowed.
    """

    def revise() -> Awaitable[None]:
        """
        The policy may have changed: ask again, and forget what is denied now.
        """


class IAccountChecker(Interface):
    """
    A checker of passwords that can tell whether an account is still there.  (Of one
    that cannot, accounts are taken to be there.)
    """

    def hasAccount(name: bytes) -> bool | Awaitable[bool]:
        """
        Whether there is an account of this name, as a login with the right password
        would find it.
        """


class IChangingAccounts(IAccountChecker):
    """
    A checker that can also tell whether an account has another password now.
    """

    def markOf(name: bytes) -> bytes | None:
        """
        What is another one after the password was changed, and tells nothing of it, such
        as a digest of a salted hash; L{None} if there is no account.
        """


class IAccountAuthenticator(Interface):
    """
    An authenticator that can tell whether it would still let somebody in.
    """

    def hasAccount(identity: Identity) -> bool | Awaitable[bool]:
        """
        Whether somebody whom this or another authenticator with the same method has
        let in could be let in again, if the client sent the same.
        """


class IBoundedTraffic(Interface):
    """
    What a session carries, where that can be bounded while it goes on.
    """

    def bound(meters: Meters) -> None:
        """
        Carry no more than there is credit for, from now on.  Said again when it is
        bounded by something else.
        """


class ITunnel(ITraffic):
    """
    A client and a destination, joined.
    """

    fromClient: IPushProducer = Attribute(
        "What comes from the client: whoever throttles it pauses this."
    )
    fromDestination: IPushProducer = Attribute(
        "What comes from the destination: whoever throttles it pauses this."
    )

    def abort() -> None:
        """
        Cut both ends now.
        """


class IRelay(Interface):
    """
    Joins clients with destinations.
    """

    def join(
        transport: Any,
        stream: ByteStream,
        outbound: IOutbound,
        ended: Callable[[str], None],
        plain: Connection | None = None,
        meters: Meters | None = None,
    ) -> ITunnel:
        """
        Carry bytes both ways until both sides have closed.

        @param transport: Where bytes for the client go.
        @param stream: Where bytes of the client come from; those that have
            come before go first.
        @param outbound: The destination.
        @param ended: Called once when both ends are closed, with the reason.
        @param plain: The TCP connection that C{transport} comes down to, if it
            carries those very bytes, and if none of them waits to be sent.
        @param meters: What bounds the bytes that may be carried; given only where
            something does.
        """


# -- plugin factories, found by twisted.plugin.getPlugins ------------------------


class IPluginFactory(Interface):
    """
    What all the factories below have.  Arguments come from the command line
    (C{NAME:ARGUMENT:KEY=VALUE}) as L{str}; what is made may also provide
    L{IService<twisted.application.service.IService>}, and is then started and
    stopped with the server.
    """

    name: str = Attribute("What it is called on the command line.")
    help: str = Attribute("What it does, in a few lines.")
    argumentHelp: str = Attribute("Its arguments, in one line; may be empty.")


class IAuthenticatorFactory(IPluginFactory):
    """
    Makes an authentication method.
    """

    def generate(reactor: Any, *args: Any, **kwargs: Any) -> IAuthenticator:
        """
        @raise ValueError: The arguments are wrong; the text says which and
            what was expected.
        """


class IPolicyFactory(IPluginFactory):
    """
    Makes a policy.
    """

    def generate(reactor: Any, *args: Any, **kwargs: Any) -> IConnectPolicy:
        """
        @raise ValueError: The arguments are wrong; the text says which and
            what was expected.
        """


class IRouteFactory(IPluginFactory):
    """
    Makes a route.
    """

    def generate(reactor: Any, *args: Any, **kwargs: Any) -> IRoute:
        """
        @raise ValueError: The arguments are wrong; the text says which and
            what was expected.
        """


class ICommandFactory(IPluginFactory):
    """
    Makes a command.
    """

    def generate(reactor: Any, *args: Any, **kwargs: Any) -> ICommand:
        """
        @raise ValueError: The arguments are wrong; the text says which and
            what was expected.
        """


# -- parts of ours that can be replaced ------------------------------------------


class IResolver(Interface):
    """
    Looks names up.
    """

    def resolve(name: str) -> Awaitable[Sequence[IPAddress]]:
        """
        All addresses of a name, in the order in which to try them.
        Cancelling leaves nothing behind.

        @param name: As L{Address<twisted_socks5.addresses.Address>} has
            normalised it.
        @raise NameNotFound: There are none.
        @raise TimedOut: Nobody answered in time.
        """


class IInterfaceResolver(IResolver):
    """
    Looks names up by a network interface, if it is told so.
    """

    def by(interface: str) -> IResolver:
        """
        The same, by a network interface.

        @param interface: Its name.
        """


class ILedger(Interface):
    """
    Where it is counted what there are limits of.
    """

    def admit(
        claims: Sequence[Claim],
    ) -> Claim | Deferred[Claim | None] | None:
        """
        Count all of these, or none if one is too many.

        @return: The first that is too many, at once or later.
        """

    def release(claims: Sequence[Claim]) -> None:
        """
        These, which were admitted, are over.
        """

    def buy(claim: Claim, amount: int) -> int | Deferred[int]:
        """
        Take bytes of a bandwidth.

        @param claim: Whose it is, and how many bytes a second it has.
        @param amount: How many at most.
        @return: How many there are now, at once or later; 0 is none.
        """

    def spend(
        amounts: Mapping[Claim, int],
    ) -> Collection[Claim] | Deferred[Collection[Claim]]:
        """
        Bytes of quotas were used.

        @param amounts: How many, of each.
        @return: Those of which nothing is left, at once or later.
        """


class IQuotaStore(Interface):
    """
    Keeps what was used of quotas when the server ends.
    """

    def open(periods: Sequence[str]) -> Iterable[tuple[QuotaKey, int]]:
        """
        Begin.  Called once, when the process is what it will be: after it has forked
        and has dropped its privileges.

        @param periods: This day, those around it, and their months, as in L{QuotaKey
            <twisted_socks5.limits.quotas.QuotaKey>}.
        @return: What was used in them.
        @raise OSError: It is not known.
        """

    def add(amounts: Mapping[QuotaKey, int]) -> Awaitable[None]:
        """
        Add to what was used: all of it, or nothing.  Not called again before that is
        done.
        """

    def close() -> None:
        """
        End.
        """


class IAccessLog(Interface):
    """
    Is told of sessions.
    """

    def sessionStarted(session: ISession) -> None:
        """
        A client has connected.
        """

    def sessionEnded(session: ISession) -> None:
        """
        It has ended, or was refused.
        """
