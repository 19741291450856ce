# src/daemon/systemd: what an installed daemon needs of the system.
systemunitdir = $(prefix)/lib/systemd/system
userunitdir = $(prefix)/lib/systemd/user
sysusersdir = $(prefix)/lib/sysusers.d
systemunit_DATA = src/daemon/systemd/ponder.service src/daemon/systemd/ponder.socket
userunit_DATA = src/daemon/systemd/user/ponder.service
sysusers_DATA = src/daemon/systemd/ponder.conf
EXTRA_DIST += src/daemon/systemd/ponder.service.in src/daemon/systemd/ponder.socket.in src/daemon/systemd/user-ponder.service.in \
	src/daemon/systemd/ponder.sysusers
CLEANFILES += $(systemunit_DATA) $(userunit_DATA) $(sysusers_DATA)

UNIT = $(AM_V_GEN)$(MKDIR_P) $(@D) && sed 's|[@]bindir@|$(bindir)|g'
src/daemon/systemd/ponder.service: $(srcdir)/src/daemon/systemd/ponder.service.in
	$(UNIT) $(srcdir)/src/daemon/systemd/ponder.service.in >$@.tmp && mv $@.tmp $@
src/daemon/systemd/ponder.socket: $(srcdir)/src/daemon/systemd/ponder.socket.in
	$(UNIT) $(srcdir)/src/daemon/systemd/ponder.socket.in >$@.tmp && mv $@.tmp $@
src/daemon/systemd/user/ponder.service: $(srcdir)/src/daemon/systemd/user-ponder.service.in
	$(UNIT) $(srcdir)/src/daemon/systemd/user-ponder.service.in >$@.tmp && mv $@.tmp $@
src/daemon/systemd/ponder.conf: $(srcdir)/src/daemon/systemd/ponder.sysusers
	$(UNIT) $(srcdir)/src/daemon/systemd/ponder.sysusers >$@.tmp && mv $@.tmp $@
