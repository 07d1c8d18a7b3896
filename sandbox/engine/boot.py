"""First file of the engine's own process, started by path so that nothing of the caller's environment comes
along.
"""

import json
import os
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(os.path.dirname(_HERE)))

if sys.argv[1:2] == ["probe"]:
    from sandbox.isolation import probe

    probe.main()
elif sys.argv[1:2] == ["nursery"]:
    from sandbox.engine import nursery

    # Everything is loaded: a program must not be able to import what lies beside the package.
    sys.path.pop(0)
    nursery.main(json.loads(sys.argv[2]))
else:
    from sandbox.engine import supervisor

    supervisor.main(json.loads(sys.argv[2]), __file__)
