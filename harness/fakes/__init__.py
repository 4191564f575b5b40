"""The simulated device and its faces. A fake is used only where it is asked for by name (T0-02); nothing installs itself.

``device``: memory, streams, events, contexts. ``clock`` and ``thermal_model``: virtual time and heat. ``faults``: what is
to go wrong, and when. ``install``: puts faces of it into ``sys.modules`` for a while: ``cuda_driver`` and others.
"""
